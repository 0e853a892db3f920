from __future__ import annotations

import csv
import errno
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.training import Recorder, convert_and_train
from tests.tasks.detection.conftest import plates, plates_plan
from visionops.data.findings import Code, Severity
from visionops.errors import ConfigError, DataError, TrainingError
from visionops.inference.bundle import Decode, ModelBundle
from visionops.inference.image import decode_image
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing_spec import PreprocessingSpec, Tiling
from visionops.tasks.base import NoLog, locked_folder
from visionops.tasks.detection import training
from visionops.tasks.detection.spec import DetectionTask

train_detector = functools.partial(convert_and_train, training.train_detector)


def test_the_bundle_says_how_to_serve_it(trained, dataset):
    bundle, _, work = trained
    card = bundle.card
    assert bundle.folder == work / "bundle"
    assert ModelBundle.load(bundle.folder) == bundle
    assert sorted(card.files) == ["checkpoint.pt", "model.onnx"]
    assert card.class_names == ("blue", "red")
    assert card.preprocessing == PreprocessingSpec(width=64, height=64)
    assert card.decode == Decode.YOLO
    assert (card.thresholds.confidence, card.thresholds.iou) == (0.3, 0.6)
    assert card.data_fingerprint == dataset.fingerprint()
    assert set(card.metrics) == {"map50", "map50_95", "precision", "recall"}


def test_the_graph_keeps_the_notice_of_its_licence_and_no_date(trained):
    import onnx

    bundle, *_ = trained
    kept = {entry.key: entry.value for entry in onnx.load(str(bundle.model_path)).metadata_props}
    assert kept.keys() == {"author", "license"}
    assert kept["author"] == "Ultralytics"
    assert kept["license"].startswith("AGPL-3.0")


def test_every_setting_reaches_the_trainer(trained):
    """Read from the trainer's own record of its arguments, not from our configuration."""
    import torch

    bundle, recorder, work = trained
    checkpoint = torch.load(work / "run" / "weights" / "best.pt", weights_only=False)
    arguments = checkpoint["train_args"]
    expected = {
        "imgsz": 64,
        "epochs": 2,
        "batch": 4,
        "optimizer": "AdamW",
        "lr0": 0.002,
        "mosaic": 0.25,
        "degrees": 3,
        "nbs": 4,
        "cos_lr": True,
        "amp": False,
    }
    assert {key: arguments[key] for key in expected} == expected
    (params,) = recorder.reported
    assert {key: params[key] for key in expected} == expected
    assert {key: bundle.card.training[key] for key in expected} == expected


def test_each_epoch_is_logged_once_with_clean_names(trained):
    _, recorder, _ = trained
    assert list(recorder.by_epoch) == [1, 2]
    assert recorder.steps == [(1, 2), (2, 2)]
    assert {
        "train_box_loss",
        "train_cls_loss",
        "val_box_loss",
        "val_map50",
        "val_map50_95",
        "val_precision",
        "val_recall",
        "learning_rate",
        "seconds",
    } <= set(recorder.by_epoch[1])
    assert not [name for name in recorder.by_epoch[1] if not name.replace("_", "").isalnum()]


def test_curves_confusion_matrix_and_label_audit_are_logged(trained):
    _, recorder, _ = trained
    expected = {
        "results.csv",
        "confusion_matrix.png",
        "BoxPR_curve.png",
        "label_audit.png",
        "trainer.log",
    }
    assert {f"training/{name}" for name in expected} <= set(recorder.files)


def test_nothing_of_this_machine_is_in_the_bundle(trained, dataset):
    bundle, _, work = trained
    places = [str(work).encode(), dataset.column("path")[0].encode(), str(Path.home()).encode() + b"/"]
    for name in ("bundle.json", "model.onnx", "checkpoint.pt"):
        content = (bundle.folder / name).read_bytes()
        assert not [place for place in places if place in content], name


def test_the_graph_answers_what_the_trained_model_answers(trained, dataset):
    import onnxruntime
    import torch
    from ultralytics.nn.tasks import load_checkpoint

    bundle, _, _ = trained
    model, _ = load_checkpoint(str(bundle.folder / "checkpoint.pt"))
    session = onnxruntime.InferenceSession(bundle.model_path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.shape == [1, 3, 64, 64]
    rng = np.random.default_rng(1)
    for _ in range(3):
        tensor = rng.random((1, 3, 64, 64), dtype=np.float32)
        (served,) = session.run(None, {given.name: tensor})
        with torch.inference_mode():
            expected = model(torch.from_numpy(tensor))[0].numpy()
        assert served.shape == expected.shape == (1, 6, 84)
        np.testing.assert_allclose(served[:, :4], expected[:, :4], atol=0.02)
        np.testing.assert_allclose(served[:, 4:], expected[:, 4:], atol=1e-4)


def test_the_checkpoint_can_be_trained_on(trained):
    from visionops.tasks.detection.models import find_weights

    checkpoint = trained[0].folder / "checkpoint.pt"
    assert find_weights("yolov8n", str(checkpoint)) == checkpoint


def test_the_same_again_gives_the_same_bundle_without_the_images_of_test(trained, dataset, tmp_path, capfd):
    splits, paths = dataset.column("split"), dataset.column("path")
    assert "test" in splits
    at_hand = [path if split != "test" else "" for split, path in zip(splits, paths, strict=True)]
    again = convert_and_train(
        DetectionTask().train,
        dataset.replace_column("path", at_hand),
        plates_plan(augmentation={"mosaic": 0.25, "degrees": 3}, extra={"nbs": 4, "cos_lr": True}),
        tmp_path / "work",
        NoLog(),
    )
    assert again.card == trained[0].card
    assert again.digest == trained[0].digest
    assert capfd.readouterr().out == ""


def test_a_finished_training_is_not_repeated(trained, dataset, monkeypatch):
    bundle, recorder, work = trained
    monkeypatch.setattr(training, "_train", lambda *_: pytest.fail("trained again"))
    again = Recorder()
    plan = plates_plan(augmentation={"mosaic": 0.25, "degrees": 3}, extra={"nbs": 4, "cos_lr": True})
    assert train_detector(dataset, plan, work, again).digest == bundle.digest
    assert again.by_epoch == recorder.by_epoch
    assert set(again.files) == set(recorder.files)


def test_a_damaged_bundle_is_exported_again_without_training(trained, dataset, tmp_path):
    import shutil

    bundle, _, work = trained
    copy = tmp_path / "work"
    shutil.copytree(work, copy, symlinks=True)
    (copy / "bundle" / "model.onnx").write_bytes(b"cut")
    plan = plates_plan(augmentation={"mosaic": 0.25, "degrees": 3}, extra={"nbs": 4, "cos_lr": True})
    before = (copy / "run" / "weights" / "best.pt").stat().st_mtime_ns
    assert train_detector(dataset, plan, copy, NoLog()).digest == bundle.digest
    assert (copy / "run" / "weights" / "best.pt").stat().st_mtime_ns == before


SCRIPT = """
import sys
from pathlib import Path
from tests.tasks.detection.conftest import plates, plates_plan
from tests.helpers.training import convert_and_train
from visionops.tasks.base import NoLog
from visionops.tasks.detection.spec import DetectionTask
folder = Path(sys.argv[1])
plan = plates_plan(epochs=300, patience=0)
convert_and_train(DetectionTask().train, plates(folder / "images"), plan, folder / "work", NoLog())
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Return the work folder of a training that was killed after its second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], cwd=Path(__file__).parents[3])
    results = folder / "work" / "run" / "results.csv"
    deadline = time.monotonic() + 600
    try:
        while not (results.is_file() and len(results.read_text().splitlines()) > 3):
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return folder


@pytest.fixture
def interrupted(killed, tmp_path, monkeypatch):
    """Return a copy of it, changed to look like a training of one more epoch; and its number of epochs."""
    import shutil

    import torch

    work = tmp_path / "work"
    shutil.copytree(killed / "work", work, symlinks=True)
    done = torch.load(work / "run" / "weights" / "last.pt", weights_only=False)["epoch"] + 1
    for name in ("last.pt", "best.pt"):
        path = work / "run" / "weights" / name
        checkpoint = torch.load(path, weights_only=False)
        checkpoint["train_args"]["epochs"] = done + 1
        torch.save(checkpoint, path)
    dataset = plates(killed / "images")
    plan = plates_plan(epochs=done + 1, patience=0)
    (work / "training.json").write_text(training._identity(dataset, plan, None))
    return dataset, plan, work, done


def test_a_killed_training_goes_on_where_it_was(interrupted, caplog):
    dataset, plan, work, done = interrupted
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        bundle = train_detector(dataset, plan, work, recorder)
    assert f"training resumes after epoch {done}" in caplog.text
    assert list(recorder.by_epoch) == list(range(1, done + 2))
    with (work / "run" / "results.csv").open() as lines:
        assert [int(row["epoch"]) for row in csv.DictReader(lines)] == list(range(1, done + 2))
    assert bundle.card.training["epochs"] == done + 1
    assert not (work / "run2").exists()


def test_a_cut_checkpoint_is_left_for_the_best_one(interrupted):
    _, plan, work, _ = interrupted
    last = work / "run" / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    point, epoch = training._resume_point(work / "run", plan.training.epochs)
    assert point == work / "run" / "weights" / "best.pt"
    assert epoch >= 1


def test_without_a_usable_checkpoint_training_starts_anew(interrupted):
    _, plan, work, _ = interrupted
    for name in ("last.pt", "best.pt"):
        (work / "run" / "weights" / name).write_bytes(b"cut")
    assert training._resume_point(work / "run", plan.training.epochs) == (None, 0)


def test_leftovers_of_another_training_are_cleared(interrupted, monkeypatch):
    dataset, plan, work, _ = interrupted
    (work / "training.json").write_text("of another")
    seen = []
    monkeypatch.setattr(training, "_train", lambda *_: seen.extend(sorted(p.name for p in work.iterdir())))
    with pytest.raises(TrainingError, match="left no usable checkpoint; run it again"):
        train_detector(dataset, plan, work, NoLog())
    assert seen == [".lock", "trainer.log", "training.json"]


def test_a_head_without_nms_is_exported_as_such(dataset, tmp_path):
    plan = plates_plan(model="yolo26n", epochs=1, extra={"nms": False})
    bundle = train_detector(dataset, plan, tmp_path / "work", NoLog())
    assert bundle.card.decode == Decode.YOLO_END2END
    assert bundle.card.architecture == "yolo26n"
    Predictor(bundle).predict(np.zeros((50, 70, 3), np.uint8))


# What stops a training -------------------------------------------------------------------------------------------


def test_with_tiles_the_trainer_and_the_card_have_the_same(tmp_path):
    dataset = plates(tmp_path / "plates", ("train", "train", "val", "test"))  # 67 pixels wide: larger than a tile
    recorder = Recorder()
    plan = plates_plan(epochs=1, tiles={"size": 48, "overlap": 24, "keep_empty": 1.0, "max_tiles": 9})
    bundle = convert_and_train(DetectionTask().train, dataset, plan, tmp_path / "work", recorder)
    assert bundle.card.preprocessing == PreprocessingSpec(
        width=64, height=64, tiles=Tiling(size=48, overlap=24, max_tiles=9)
    )
    assert bundle.card.data_fingerprint == dataset.fingerprint()
    assert any("cut into tiles (3 of 3)" in note for note in recorder.notes)
    assert not {"data", "tiles"} & {path.name for path in (tmp_path / "work").iterdir()}
    image = Path(dataset.column("path")[0]).read_bytes()
    assert len(Predictor(bundle).infer(image)) == 4


def test_the_trainer_reads_tiles(tmp_path, monkeypatch):
    """Stopped when the layout exists, whose tiles are those of serving."""
    dataset = plates(tmp_path / "plates", ("train", "train", "val", "test"))
    seen: list[list[str]] = []

    def stop(self):
        root = Path(self.args.data).parent
        seen.append(sorted(p.name for p in (root / "images" / "val").iterdir()))
        assert {decode_image(p.read_bytes()).shape for p in root.glob("images/*/*")} == {(48, 48, 3)}
        assert not (root / "images" / "test").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("visionops.tasks.detection.trainer.InspectionTrainer.train", stop)
    plan = plates_plan(epochs=1, tiles={"size": 48, "overlap": 24, "keep_empty": 1.0})
    with pytest.raises(KeyboardInterrupt):
        convert_and_train(DetectionTask().train, dataset, plan, tmp_path / "work", NoLog())
    (names,) = seen
    assert names
    assert all(name.startswith("2.png__") for name in names)


def test_tiles_that_leave_nothing_to_learn_are_refused(tmp_path):
    dataset = plates(tmp_path / "plates", ("train", "train", "train", "val", "test"))  # the fourth has no plate
    with pytest.raises(TrainingError, match=r"no tile of the val split has a box.*training\.tiles\.keep_empty"):
        convert_and_train(
            DetectionTask().train,
            dataset,
            plates_plan(tiles={"size": 48, "overlap": 24, "keep_empty": 0}),
            tmp_path / "work",
            NoLog(),
        )
    pieces = plates_plan(tiles={"size": 32, "overlap": 1, "keep_empty": 1, "min_visible": 1})
    with pytest.raises(TrainingError, match=r"no box of .* in the train split.*lower training\.tiles\.min_visible"):
        convert_and_train(DetectionTask().train, dataset, pieces, tmp_path / "other", NoLog())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split(dataset, tmp_path, split):
    rows = [i for i, s in enumerate(dataset.column("split")) if s != split]
    with pytest.raises(TrainingError, match=f"plates: the {split} split has no images"):
        train_detector(dataset.take(rows), plates_plan(), tmp_path / "work", NoLog())
    assert not (tmp_path / "work").exists()


def test_a_class_without_a_training_box(tmp_path):
    dataset = plates(tmp_path / "images", ("train", "val", "test", "val", "val", "val"))
    with pytest.raises(TrainingError, match="plates: no box of red in the train split"):
        train_detector(dataset, plates_plan(), tmp_path / "work", NoLog())


def test_a_class_without_a_training_box_is_said_where_the_policy_lets_it_pass(tmp_path, caplog):
    dataset = plates(tmp_path / "images", ("train", "val", "test", "val", "val", "val"))
    plan = plates_plan(epochs=1)
    lenient = plan.validation.model_copy(update={"severities": {Code.TOO_FEW_INSTANCES: Severity.WARNING}})
    bundle = train_detector(dataset, plan.model_copy(update={"validation": lenient}), tmp_path / "work", NoLog())
    assert bundle.card.class_names == dataset.class_names
    assert "no box of red in the train split: the model cannot learn to find it" in caplog.text


def test_mistakes_in_the_configuration_are_found_before_anything_is_written(dataset, tmp_path):
    work = tmp_path / "work"
    with pytest.raises(TrainingError, match="unknown detector 'yolo8n'; did you mean"):
        train_detector(dataset, plates_plan(model="yolo8n"), work, NoLog())
    with pytest.raises(TrainingError, match="does not exist"):
        train_detector(dataset, plates_plan(weights=str(tmp_path / "no.pt")), work, NoLog())
    with pytest.raises(ConfigError, match="did you mean 'mosaic'"):
        train_detector(dataset, plates_plan(augmentation={"mosaik": 1}), work, NoLog())
    assert not work.exists()


def test_a_device_that_is_not_there(dataset, tmp_path):
    with pytest.raises(TrainingError, match="Invalid CUDA 'device=7'") as caught:
        train_detector(dataset, plates_plan(device="7"), tmp_path / "work", NoLog())
    assert "\n" not in str(caught.value)


def test_an_image_that_is_not_on_this_machine(dataset, tmp_path):
    lost = dataset.replace_column("path", [""] * dataset.num_images)
    with pytest.raises(DataError, match="not on this machine"):
        train_detector(lost, plates_plan(), tmp_path / "work", NoLog())


def test_the_same_training_twice_at_a_time(dataset, tmp_path):
    work = tmp_path / "work"
    with locked_folder(work), pytest.raises(TrainingError, match="the same training is already running"):
        train_detector(dataset, plates_plan(), work, NoLog())


def test_a_file_in_the_way_of_the_folder(dataset, tmp_path):
    (tmp_path / "file").touch()
    for work in (tmp_path / "file", tmp_path / "file" / "work"):
        with pytest.raises(TrainingError, match=r"is not a folder .*move the file that is in the way"):
            train_detector(dataset, plates_plan(), work, NoLog())


def test_a_loss_that_is_not_a_number(dataset, tmp_path):
    plan = plates_plan(epochs=1, extra={"cls": 1e300})
    with pytest.raises(TrainingError, match=r"lower training\.learning_rate"):
        train_detector(dataset, plan, tmp_path / "work", NoLog())
    assert not (tmp_path / "work" / "bundle").exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot be written (no space left on device); free some"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot be written (read-only file system)"),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file"), "is the disk full?"),
        (RuntimeError("CUDA out of memory. Tried"), "with batch 4 at 64 px; lower training.batch"),
        (MemoryError(), "lower training.batch"),
        (RuntimeError("Training failed: NaN persisted for 4 epochs"), "lower training.learning_rate (now 0.002)"),
        (FileNotFoundError("image not found: a.png"), "the trainer stopped: FileNotFoundError: image not found: a.png"),
        (ValueError("two\nlines"), "the trainer stopped: ValueError: two lines (more in "),
    ],
)
def test_whatever_stops_the_trainer_is_one_line_with_a_fix(dataset, tmp_path, monkeypatch, error, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(training, "_train", fail)
    with pytest.raises(TrainingError) as caught:
        train_detector(dataset, plates_plan(), tmp_path / "work", NoLog())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_the_trainers_own_errors_are_in_its_log(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "link_yolo", lambda *_: tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_text("names: [blue, red]")
    with pytest.raises(TrainingError, match="the trainer stopped"):
        train_detector(dataset, plates_plan(), tmp_path / "work", NoLog())
    assert "Traceback" in (tmp_path / "work" / "trainer.log").read_text()


def test_the_identity_is_that_of_data_settings_and_weights(dataset, tmp_path):
    identity = training._identity(dataset, plates_plan(), None)
    (tmp_path / "a.pt").write_bytes(b"a")
    assert identity == training._identity(dataset, plates_plan(), None)
    assert identity != training._identity(dataset, plates_plan(epochs=3), None)
    assert identity != training._identity(dataset.take(range(5)), plates_plan(), None)
    assert identity != training._identity(dataset, plates_plan(), tmp_path / "a.pt")
    json.loads(identity)
