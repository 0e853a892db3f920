import dataclasses
import functools
import json
import re

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tests.helpers.training import Recorder, convert_and_train
from tests.tasks.classification.conftest import COLOUR, SIDE, labels_plan, plates, scratch
from visionops.data.dataset import Dataset, Split
from visionops.data.hashing import hash_images
from visionops.data.layers import Attribute
from visionops.errors import DataError, TrainingError
from visionops.inference.bundle import Decode, ModelBundle
from visionops.inference.image import decode_image
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing import preprocess, to_canvas
from visionops.inference.settings import EngineName
from visionops.tasks.base import NoLog, StopTraining
from visionops.tasks.classification import training
from visionops.tasks.classification.backbones import load_timm
from visionops.tasks.classification.networks import LabelNetwork
from visionops.tasks.classification.pixels import read_canvases
from visionops.tasks.classification.spec import CLASSIFICATION

train_labels = functools.partial(convert_and_train, training.train_labels)

TINY_VIT = {"model": "vit_tiny_patch16_224", "image_size": 64}


@pytest.fixture
def dataset(tmp_path):
    return plates(tmp_path / "images")


@pytest.fixture
def both(tmp_path):
    return plates(tmp_path / "images", (COLOUR, SIDE))


@pytest.fixture
def resnet_file(tmp_path):
    """Write a random backbone to a file, so that it needs no network."""
    torch.manual_seed(0)
    torch.save(load_timm().create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "resnet10t.pth")
    return {"model": "resnet10t", "weights": str(tmp_path / "resnet10t.pth"), "image_size": 32}


def network_of(bundle: ModelBundle) -> LabelNetwork:
    """Return the network of ``checkpoint.pt``, built without export or serving code."""
    saved = torch.load(bundle.folder / "checkpoint.pt", weights_only=True)
    settings = saved["training"]
    from visionops.tasks.classification import networks

    match settings["model"]:
        case "cnn":
            backbone, width = networks.cnn(settings["filters"], settings["kernel"])
        case "residual":
            backbone, width = networks.residual(settings["filters"])
        case name:
            name = {"efficientnet_lite0": "tf_efficientnet_lite0"}.get(name, name)
            size = {"img_size": settings["image_size"]} if name.startswith("vit") else {}
            backbone = load_timm().create_model(name, num_classes=0, **size)
            width = backbone.num_features
    network = LabelNetwork(backbone, width, [len(head.class_names) for head in bundle.card.heads])
    network.load_state_dict(saved["network"])
    return network.eval()


def real_images(real_data, count=50):
    paths = [p for name in ("casting/test/def_front", "plants/dandelion") for p in sorted((real_data / name).iterdir())]
    return paths[:: len(paths) // count][:count]


# The bundle ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        scratch(epochs=1),
        scratch(epochs=1, model="residual"),
        {},
        {"learning": "scratch", "epochs": 1, **TINY_VIT},
    ],
    ids=["cnn", "residual", "lite0", "vit"],
)
def test_the_bundle_answers_as_the_trained_network_does(both, tmp_path, real_data, settings):
    plan = labels_plan("attributes", **settings)
    bundle = train_labels(both, plan, tmp_path / "work", NoLog())
    network, paths = network_of(bundle), real_images(real_data)
    assert len(paths) == 50
    for engine in EngineName:
        predictor = Predictor(bundle, engine)
        for path in paths:
            prediction = predictor.predict(path.read_bytes())
            tensor, _ = preprocess(decode_image(path.read_bytes()), bundle.card.preprocessing)
            with torch.inference_mode():
                logits, features = network(torch.from_numpy(tensor))
            for answer, part in zip(prediction.answers, logits[0].split([3, 2]), strict=True):
                expected = torch.softmax(part.double() / answer.head.temperature, dim=0).numpy()
                np.testing.assert_allclose(answer.probabilities, expected, atol=1e-3)
            np.testing.assert_allclose(
                prediction.embedding, features[0].numpy(), atol=1e-3 * float(features.abs().max())
            )


def test_the_model_is_served_the_pixels_of_its_training_when_they_have_12_bits(tmp_path):
    dataset = plates(tmp_path / "images")
    for path in dataset.paths():
        grey = np.asarray(Image.open(path).convert("L"), dtype=np.uint16)
        Image.fromarray(grey * np.uint16(16)).save(path)
    dataset = dataclasses.replace(dataset, white_level=4095).replace_column("sha256", [""] * dataset.num_images)
    bundle = train_labels(dataset, labels_plan(**scratch(epochs=1)), tmp_path / "work", NoLog())
    spec = ModelBundle.load(bundle.folder).card.preprocessing
    assert spec.white == 4095
    predictor = Predictor(bundle)
    rows = range(dataset.num_images)
    for path, trained in zip(dataset.paths(), read_canvases(dataset, spec, rows), strict=True):
        served = predictor.pixels(path.read_bytes())
        np.testing.assert_array_equal(to_canvas(served, spec)[0], trained)
        assert served.mean() > 80


def test_the_card_says_what_serving_needs(dataset, tmp_path):
    bundle = train_labels(dataset, labels_plan(**scratch(crop={"margin": 0.2})), tmp_path / "work", NoLog())
    card = bundle.card
    assert (card.name, card.architecture, card.decode) == ("plates", "cnn", Decode.LOGITS)
    assert card.class_names == ("left", "right")
    assert [(head.name, head.class_names, head.positive) for head in card.heads] == [
        ("side", SIDE.class_names, "right")
    ]
    assert card.preprocessing.crop.margin == 0.2
    assert card.data_fingerprint == dataset.fingerprint()
    assert {"accuracy", "balanced_accuracy", "f1", "roc_auc", "pr_auc"} <= set(card.metrics)
    assert card.training["learning_rate"] == 0.01
    assert "l2" not in card.training
    graph = onnx.load(bundle.model_path)
    assert [(o.version, o.domain) for o in graph.opset_import] == [(17, "")]
    outputs = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.graph.output}
    assert outputs == {"logits": [1, 2], "embedding": [1, 128]}
    assert str(tmp_path) not in (bundle.folder / "bundle.json").read_text()


def test_the_figures_of_the_card_are_those_of_the_bundle_on_val(both, tmp_path):
    from sklearn.metrics import balanced_accuracy_score

    bundle = train_labels(both, labels_plan("attributes", **scratch(epochs=5)), tmp_path / "work", NoLog())
    val, predictor = both.select_split(Split.VAL), Predictor(bundle)
    answers = [predictor.predict(path.read_bytes()).answers for path in val.paths()]
    said = np.array([[answer.class_id for answer in row] for row in answers])
    truth = val.label_array()
    assert bundle.card.metrics["accuracy"] == pytest.approx((said == truth).mean())
    assert bundle.card.metrics["side.balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(truth[:, 1], said[:, 1])
    )


# Frozen ----------------------------------------------------------------------------------------------------------


def test_frozen_learning_finds_the_colour(tmp_path):
    dataset = plates(tmp_path / "images", (COLOUR,))
    log = Recorder()
    bundle = train_labels(dataset, labels_plan(views="mirrored"), tmp_path / "work", log)
    assert bundle.card.metrics["accuracy"] >= 0.9
    assert log.by_epoch[1]["val_accuracy"] == bundle.card.metrics["accuracy"]
    assert log.reported == [bundle.card.training]
    assert bundle.card.training["l2"].keys() == {"colour"}
    assert "epochs" not in bundle.card.training
    assert "features of train (24 of 24)" in log.notes


def test_the_same_training_gives_the_same_bundle_with_and_without_cached_features(dataset, tmp_path, home, resnet_file):
    plan = labels_plan(**resnet_file, views="mirrored", balance="weights")
    first = train_labels(dataset, plan, tmp_path / "a", NoLog())
    assert list((home / "cache" / "features").glob("*/*.parquet"))
    cached = train_labels(dataset, plan, tmp_path / "b", NoLog())
    import shutil

    shutil.rmtree(home / "cache")
    anew = train_labels(dataset, plan, tmp_path / "c", NoLog())
    assert first.digest == cached.digest == anew.digest


def test_fine_tuning_begins_with_the_solved_heads(dataset, tmp_path, resnet_file):
    log = Recorder()
    plan = labels_plan(**resnet_file, learning="fine_tune", epochs=2, batch=8, learning_rate=1e-9)
    tuned = train_labels(dataset, plan, tmp_path / "a", log)
    assert tuned.card.training["l2"].keys() == {"side"}
    # At this rate nothing changes except the running statistics of normalization.
    frozen = network_of(train_labels(dataset, labels_plan(**resnet_file), tmp_path / "b", NoLog()))
    torch.testing.assert_close(network_of(tuned).heads[0].weight, frozen.heads[0].weight, atol=1e-5, rtol=1e-3)
    assert sorted(log.by_epoch) == [1, 2]


# Epochs ----------------------------------------------------------------------------------------------------------


def test_scratch_learns_and_reports_each_epoch(both, tmp_path):
    log = Recorder()
    plan = labels_plan("attributes", **scratch(epochs=12, patience=0, augmentation={"fliplr": 0.0}))
    bundle = train_labels(both, plan, tmp_path / "work", log)
    assert sorted(log.by_epoch) == list(range(1, 13))
    assert {"train_loss", "val_loss", "learning_rate", "val_accuracy", "val_colour.accuracy"} <= set(log.by_epoch[1])
    assert log.by_epoch[12]["train_loss"] < log.by_epoch[1]["train_loss"]
    assert bundle.card.metrics["colour.accuracy"] >= 0.9
    best = bundle.card.training["best_epoch"]
    assert log.by_epoch[best]["val_accuracy"] == max(figures["val_accuracy"] for figures in log.by_epoch.values())
    assert "training/history.csv" in log.files


class Interrupted(Exception):
    pass


class StopsAfter(Recorder):
    def __init__(self, epoch, error):
        super().__init__()
        self.epoch, self.error = epoch, error

    def metrics(self, metrics, step):
        super().metrics(metrics, step)
        if step == self.epoch:
            raise self.error


@pytest.mark.parametrize("scheduler", ["plateau", "cosine"])
def test_a_resumed_training_is_the_uninterrupted_one(dataset, tmp_path, scheduler):
    more = {"degrees": 10, "brightness": 0.1}
    plan = labels_plan(**scratch(epochs=5, dropout=0.3, scheduler=scheduler, augmentation=more, balance="sampler"))
    through = train_labels(dataset, plan, tmp_path / "a", NoLog())
    with pytest.raises(StopTraining):
        train_labels(dataset, plan, tmp_path / "b", StopsAfter(2, StopTraining()))
    log = Recorder()
    resumed = train_labels(dataset, plan, tmp_path / "b", log)
    assert resumed.digest == through.digest
    assert sorted(log.by_epoch) == [1, 2, 3, 4, 5]


def test_a_finished_training_is_not_run_again(dataset, tmp_path, monkeypatch):
    plan = labels_plan(**scratch(epochs=1))
    first = train_labels(dataset, plan, tmp_path / "work", NoLog())
    monkeypatch.setattr(training._Training, "run", lambda _: pytest.fail("trained again"))
    log = Recorder()
    assert train_labels(dataset, plan, tmp_path / "work", log).digest == first.digest
    assert log.reported == [first.card.training]


def test_leftovers_of_another_training_are_cleared(dataset, tmp_path):
    work = tmp_path / "work"
    with pytest.raises(StopTraining):
        train_labels(dataset, labels_plan(**scratch()), work, StopsAfter(1, StopTraining()))
    assert (work / "run" / "state.pt").is_file()
    log = Recorder()
    train_labels(dataset, labels_plan(**scratch(epochs=1, batch=4)), work, log)
    assert sorted(log.by_epoch) == [1]


def test_training_stops_when_val_no_longer_improves(dataset, tmp_path):
    log = Recorder()
    plan = labels_plan(**scratch(epochs=50, patience=2, learning_rate=1e-12, weight_decay=0, scheduler="none"))
    bundle = train_labels(dataset, plan, tmp_path / "work", log)
    assert len(log.by_epoch) == bundle.card.training["best_epoch"] + 2 < 50


def test_a_loss_that_is_not_a_number(dataset, tmp_path):
    plan = labels_plan(**scratch(learning_rate=1e30, optimizer="SGD", gradient_clip=0, epochs=5))
    with pytest.raises(TrainingError, match=r"diverged in epoch \d .*lower training\.learning_rate \(now 1e\+30\)"):
        train_labels(dataset, plan, tmp_path / "work", NoLog())
    assert not (tmp_path / "work" / "bundle").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"head_weights": {"side": 5.0}},
        {"balance": "weights"},
        {"balance": "sampler"},
        {"label_smoothing": 0.2},
        {"optimizer": "SGD"},
        {"weight_decay": 0.5},
        {"gradient_clip": 0.01},
        {"dropout": 0.5},
        {"batch": 5},
        {"seed": 1},
        {"scheduler": "cosine"},
        {"augmentation": {"fliplr": 1.0}},
    ],
    ids=lambda change: next(iter(change)) + "=" + str(next(iter(change.values()))),
)
def test_every_setting_of_the_loop_changes_what_is_learned(tmp_path, change):
    uneven = plates(tmp_path / "images", (COLOUR, SIDE), ("train",) * 10 + ("val",) * 6 + ("test",) * 3)
    weights = {}
    for name, settings in (("plain", {}), ("changed", change)):
        plan = labels_plan("attributes", **scratch(epochs=2, patience=0, **settings))
        bundle = train_labels(uneven, plan, tmp_path / name, NoLog())
        weights[name] = network_of(bundle).heads[0].weight
    assert not torch.equal(weights["plain"], weights["changed"])


def test_images_of_weight_zero_and_unknown_labels_teach_nothing(tmp_path, resnet_file):
    """They have no effect, although their labels are wrong."""
    full = plates(tmp_path / "images", (COLOUR,))
    labels, train = full.label_array()[:, 0], np.array(full.column("split")) == "train"
    rows = np.arange(len(labels))
    unknown, weightless = train & (rows % 4 == 1), train & (rows % 4 == 2)
    answers = [None if u else int(c + w) % 3 for c, u, w in zip(labels, unknown, weightless, strict=True)]
    masked = Dataset.from_columns(
        "plates",
        (),
        {**full.images.to_pydict(), "weight": np.where(weightless, 0.0, 1.0).tolist()},
        {},
        attributes=full.attributes,
        labels={"colour": answers},
    )
    plan = labels_plan(**resnet_file)
    heads = [
        network_of(train_labels(data, plan, tmp_path / name, NoLog())).heads[0]
        for name, data in (("masked", masked), ("absent", full.take(np.flatnonzero(~unknown & ~weightless))))
    ]
    torch.testing.assert_close(heads[0].weight, heads[1].weight)
    torch.testing.assert_close(heads[0].bias, heads[1].bias)


# Calibration -----------------------------------------------------------------------------------------------------


def test_without_calibration_a_temperature_is_one(dataset, tmp_path):
    bundle = train_labels(dataset, labels_plan(**scratch(epochs=1), calibrate=False), tmp_path / "a", NoLog())
    assert bundle.card.heads[0].temperature == 1.0
    assert bundle.card.heads[0].threshold is None


def test_a_threshold_with_a_goal(dataset, tmp_path):
    plan = labels_plan(**scratch(epochs=1), threshold={"metric": "f1"})
    bundle = train_labels(dataset, plan, tmp_path / "a", NoLog())
    assert 0 < bundle.card.heads[0].threshold < 1


def test_a_threshold_needs_a_positive_class(tmp_path):
    dataset = plates(tmp_path / "images", (COLOUR,))
    with pytest.raises(
        TrainingError, match=r"plates has no attribute with a positive class; name one with data\.labels"
    ):
        train_labels(dataset, labels_plan(threshold={"metric": "f1"}), tmp_path / "work", NoLog())


# What stops a training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split(dataset, tmp_path, split):
    rows = [i for i, s in enumerate(dataset.column("split")) if s != split]
    with pytest.raises(TrainingError, match=f"plates: the {split} split has no images"):
        train_labels(dataset.take(rows), labels_plan(), tmp_path / "work", NoLog())
    assert not (tmp_path / "work").exists()


def test_a_class_without_a_training_image(tmp_path):
    wide = Attribute("side", ("left", "right", "middle"))
    dataset = plates(tmp_path / "images", (wide,))
    with pytest.raises(TrainingError, match="no image of side middle in the train split; label some"):
        train_labels(dataset, labels_plan(), tmp_path / "work", NoLog())


def test_mistakes_in_the_settings_are_found_before_anything_is_written(both, tmp_path):
    work = tmp_path / "work"
    for settings, words in (
        ({"model": "efficientnet_lite"}, "did you mean efficientnet_lite0"),
        ({"weights": str(tmp_path / "no.pt")}, "is not a file"),
        ({"device": "7"}, "training.device: '7' is not available on this machine; expected one of auto, cpu"),
        ({"learning": "fine_tune", "head_weights": {"sid": 2}}, "no attribute 'sid'; did you mean 'side'?"),
    ):
        with pytest.raises(TrainingError, match=re.escape(words)) as caught:
            train_labels(both, labels_plan("attributes", **settings), work, NoLog())
        assert "\n" not in str(caught.value)
    assert not work.exists()


def test_an_image_that_is_not_on_this_machine(dataset, tmp_path):
    lost = dataset.replace_column("path", [""] * dataset.num_images)
    with pytest.raises(DataError, match="not on this machine"):
        train_labels(lost, labels_plan(), tmp_path / "work", NoLog())


def test_a_checkpoint_that_was_damaged(dataset, tmp_path):
    plan, work = labels_plan(**scratch()), tmp_path / "work"
    with pytest.raises(StopTraining):
        train_labels(dataset, plan, work, StopsAfter(1, StopTraining()))
    (work / "run" / "state.pt").write_bytes(b"cut")
    with pytest.raises(TrainingError, match=r"state\.pt: cannot resume from this checkpoint .*delete it to restart"):
        train_labels(dataset, plan, work, NoLog())


def test_whatever_else_stops_it_is_one_line(dataset, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(training._Training, "run", fail)
    with pytest.raises(TrainingError, match=r"out of memory with batch 8 at 32 px; lower training\.batch"):
        train_labels(dataset, labels_plan(**scratch()), tmp_path / "work", NoLog())


def test_the_identity_is_that_of_data_settings_and_weights(dataset, tmp_path):
    from visionops.tasks.classification.backbones import build_backbone

    def identity(data=dataset, seed=0, **settings):
        plan = labels_plan(**scratch(**settings))
        torch.manual_seed(seed)
        return training._identity(data, plan, build_backbone(plan.training, 32))

    assert identity() == identity()
    assert identity() != identity(epochs=9)
    assert identity() != identity(seed=1)
    assert identity() != identity(dataset.take(range(5)))
    json.loads(identity())


def test_the_task_trains_through_its_door(dataset, tmp_path):
    plan = labels_plan(**scratch(epochs=1))
    assert convert_and_train(CLASSIFICATION.train, dataset, plan, tmp_path / "work", NoLog()).card.architecture == "cnn"


def test_an_unhashed_data_set_is_hashed(dataset, tmp_path, resnet_file):
    blank = dataset.replace_column("sha256", [""] * dataset.num_images)
    bundle = train_labels(blank, labels_plan(**resnet_file), tmp_path / "work", NoLog())
    assert bundle.card.data_fingerprint == hash_images(blank).fingerprint()
