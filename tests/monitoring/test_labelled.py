from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import images
from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from visionops.config import Config
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.data.history import SPLITS_FILE, SplitHistory
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig, FolderSource, ValidationPolicy
from visionops.data.validation.judging import validate
from visionops.errors import MetricError
from visionops.evaluation.settings import EvaluationConfig
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor
from visionops.lineage import add_splits, read_splits
from visionops.monitoring.labelled import LabelledTraffic, measure, unseen, untrained
from visionops.tasks.spec import task_for

POLICY = ValidationPolicy(min_images=1)
SCENES = [[("red", 0, 0)], [("green", 2, 2)], [("blue", 1, 1)], [("red", 3, 3)], []]
SPLITS = ["train", "val", "test", "", "unlabelled"]


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def dataset(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(SCENES))]
    for path, cells in zip(paths, SCENES, strict=True):
        path.write_bytes(encode(picture(cells)))
    images = {"key": [p.name for p in paths], "path": [str(p) for p in paths], "split": SPLITS}
    return hash_images(Dataset.from_columns("cells", CLASSES, images, {}))


def test_new_is_what_no_training_had_in_whatever_split(bundle, dataset):
    trained = add_splits(bundle, SplitHistory.of(dataset.take([0, 1, 2, 4])))
    new = unseen(dataset, read_splits(trained), POLICY)
    assert new.column("key") == ["3.png", "4.png"]  # an image seen without a label does not count
    assert SPLITS_FILE in ModelBundle.load(bundle.folder).card.files
    assert add_splits(trained, read_splits(trained)).digest == trained.digest


def test_a_copy_of_what_was_seen_is_not_new_however_it_is_encoded(bundle, tmp_path):
    pixels = images.picture(1)
    files = {"train.png": images.encode(pixels, "PNG"), "other.png": images.encode(images.picture(2), "PNG")}
    files |= {
        "jpeg.jpg": images.encode(pixels, "JPEG", quality=60),
        "small.png": images.encode(pixels.resize((90, 70)), "PNG"),
    }
    files |= {"broken.png": b"no image", "twice.png": images.encode(images.picture(2), "PNG")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    columns = {"key": list(files), "path": [str(tmp_path / name) for name in files]}
    everything = hash_images(Dataset.from_columns("cells", CLASSES, columns, {}))
    seen = everything.take([0]).replace_column("split", ["train"])
    history = SplitHistory.of(clean(seen, validate(seen, POLICY)))
    assert unseen(everything, history, POLICY).column("key") == ["other.png"]


def test_a_part_in_another_light_is_new_and_judges_only_where_nothing_learned_from_it(tmp_path):
    def photograph(seed: int, light: float) -> bytes:
        return images.encode(images.Image.fromarray((np.asarray(images.picture(seed)) * light).astype(np.uint8)), "PNG")

    files = {f"{seed}.png": photograph(seed, 1) for seed in range(3)}
    files |= {f"dark-{i}.png": photograph(i, 0.5) for i in range(3)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    columns = {"key": list(files), "path": [str(tmp_path / name) for name in files]}
    everything = hash_images(Dataset.from_columns("cells", CLASSES, columns, {}))
    seen = everything.take([0, 1, 2]).replace_column("split", ["train", "val", "test"])
    history = SplitHistory.of(clean(seen, validate(seen, POLICY)))
    new = unseen(everything, history, POLICY)
    assert new.column("key") == ["dark-0.png", "dark-1.png", "dark-2.png"]
    assert untrained(new, history, POLICY).column("key") == ["dark-2.png"]


def test_what_a_training_left_out_is_not_new_for_ever(dataset):
    # Two of three new labels are copies of an image of the data set, which the last training left out.
    history = SplitHistory.of(dataset.take([0]), left_out=dataset.column("sha256")[1:3])
    assert unseen(dataset.take([0, 1, 2, 3]), history, POLICY).column("key") == ["3.png"]


def test_labels_that_contradict_each_other_are_not_counted(tmp_path):
    names = ["a.png", "b.png", "c.png"]
    for name, seed in zip(names, (1, 1, 2), strict=True):
        (tmp_path / name).write_bytes(images.encode(images.picture(seed), "PNG"))
    columns = {"key": names, "path": [str(tmp_path / name) for name in names]}
    attribute = Attribute("class", ("ok", "pit"))
    labelled = Dataset.from_columns("n", (), columns, {}, attributes=[attribute], labels={"class": [0, 1, 0]})
    assert unseen(hash_images(labelled), SplitHistory.empty(), POLICY).column("key") == ["c.png"]


def test_a_bundle_of_an_earlier_release_does_not_say_what_it_has_seen(bundle):
    assert read_splits(bundle) is None


def test_the_gates_metric_is_measured_on_new_labels_whatever_the_order_of_classes(bundle, dataset, tmp_path):
    labels = ["green", "red"]  # another tool orders its classes differently
    labelled = as_answered(bundle, dataset.take([0, 1, 3]), labels)
    config = Config(
        name="cells",
        task="detection",
        data=DataConfig(source=FolderSource(kind="folder", path=tmp_path)),
        evaluation=EvaluationConfig(worst_images=0, latency_images=1, resamples=100),
    )
    performance = measure(task_for(config.task), bundle, labelled, config.scoring, 0.9)
    assert performance.metric == "map50"
    assert performance.value == pytest.approx(1)
    assert performance.interval[0] <= performance.value <= performance.interval[1] + 1e-9
    assert (performance.images, performance.at_test) == (3, 0.9)
    traffic = LabelledTraffic(new_labels=3, performance=performance)
    assert traffic.explain().startswith("3 images labelled since the last training; map50 of the champion 1.000 (")


def as_answered(bundle, new, labels):
    """Return the images with the boxes that the bundle finds, under the classes ``labels``."""
    predictor = Predictor(bundle)
    found = [predictor.predict(path.read_bytes()) for path in new.paths()]
    rows = [(row, box, name) for row, p in enumerate(found) for box, (name, _) in zip(p.boxes, p.labels(), strict=True)]
    boxes = {"image": [row for row, *_ in rows], "class_id": [labels.index(name) for *_, name in rows]}
    boxes |= {side: [float(box[i]) for _, box, _ in rows] for i, side in enumerate(("x1", "y1", "x2", "y2"))}
    images = {name: new.column(name) for name in ("key", "path", "sha256", "width", "height")}
    return Dataset.from_columns("new", labels, images, boxes)


def test_labels_that_the_champion_does_not_know_are_reported_and_stop_nothing(bundle, dataset, tmp_path):
    labelled = as_answered(bundle, dataset.take([0, 1, 2]), ["blue", "green", "red"])
    old = make_bundle(tmp_path / "old", class_names=("red", "green"))
    config = Config(name="cells", task="detection", data=DataConfig(source=FolderSource(kind="folder", path=tmp_path)))
    performance = measure(task_for(config.task), old, labelled, config.scoring, 0.9)
    assert performance.value == pytest.approx(1)
    assert performance.left_out == "1 box of blue"
    explained = LabelledTraffic(new_labels=3, performance=performance).explain()
    assert explained.endswith("on its test split; not counted, as the champion does not know it: 1 box of blue")
    without = performance.model_copy(update={"interval": None, "left_out": ""})
    assert "map50 of the champion 1.000 on 3 labelled images" in LabelledTraffic(performance=without).explain()
    only_new = as_answered(bundle, dataset.take([2]), ["blue", "green", "red"])
    with pytest.raises(MetricError, match="has no boxes"):
        measure(task_for(config.task), old, only_new, config.scoring, 0.9)


def test_images_on_which_nothing_is_define_no_figure(bundle, dataset, tmp_path):
    config = Config(name="cells", task="detection", data=DataConfig(source=FolderSource(kind="folder", path=tmp_path)))
    with pytest.raises(MetricError, match="has no boxes"):
        measure(task_for(config.task), bundle, dataset.take([4]), config.scoring, 0.9)


def test_without_labels_that_is_all_there_is_to_say():
    assert LabelledTraffic().explain() == "0 images labelled since the last training"


def test_of_a_review_the_run_says_how_many_images_count(dataset):
    traffic = LabelledTraffic(new_labels=2, decided=150, drawn=20)
    assert traffic.explain() == (
        "2 images labelled since the last training; 20 of 150 images in review drawn at random, which alone count"
    )
    assert (
        LabelledTraffic(decided=0, drawn=0)
        .explain()
        .endswith("; 0 of 0 images in review drawn at random, which alone count")
    )
    nothing = unseen(dataset.take([]), SplitHistory.of(dataset), POLICY)
    assert untrained(nothing, SplitHistory.of(dataset), POLICY).num_images == 0
