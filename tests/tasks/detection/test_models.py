from __future__ import annotations

import logging

import pytest

from visionops.errors import TrainingError
from visionops.tasks.detection import models
from visionops.tasks.detection.models import check_detector, detector_names, find_weights


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Set a home without weights."""
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import torch
    from ultralytics.nn.tasks import DetectionModel

    folder = tmp_path_factory.mktemp("weights")
    model = DetectionModel("yolov8n.yaml", nc=2, verbose=False)
    model.args = {}
    torch.save({"model": model.half(), "train_args": {}}, folder / "yolov8n.pt")
    return folder / "yolov8n.pt"


@pytest.mark.parametrize(
    "name", ["yolov8n", "yolov8x", "yolo11n", "yolo12s", "yolo26n", "yolov10n", "yolov9t", "yolov5n"]
)
def test_known_detectors(name):
    check_detector(name)


def test_names_hold_detectors_only():
    names = detector_names()
    assert len(names) == len(set(names))
    assert not [n for n in names if any(task in n for task in ("seg", "pose", "cls", "obb", "rtdetr", "world"))]


@pytest.mark.parametrize(("name", "near"), [("yolo8n", "yolov8n"), ("YOLOv8n", "yolov8n"), ("yolov11n", "yolo11n")])
def test_an_unknown_detector_is_refused_with_near_ones(name, near):
    with pytest.raises(TrainingError, match="did you mean") as caught:
        check_detector(name)
    assert near in str(caught.value)


def test_an_outlandish_name_lists_what_there_is():
    with pytest.raises(TrainingError, match=r"known are .*yolov8n"):
        check_detector("resnet")


def test_every_name_can_be_built():
    from ultralytics.nn.tasks import yaml_model_load

    for name in detector_names():
        described = yaml_model_load(f"{name}.yaml")
        scales = described.get("scales", {"": ()})
        assert described["scale"] in scales or len(scales) == 1, name


def test_none_starts_from_the_architecture():
    assert find_weights("yolov8n", "none") is None


def test_a_file_or_the_folder_that_holds_it(checkpoint):
    assert find_weights("yolov8n", str(checkpoint)) == checkpoint
    assert find_weights("yolov8n", str(checkpoint.parent)) == checkpoint


def test_weights_of_another_architecture_are_refused(checkpoint):
    with pytest.raises(TrainingError, match=r"is for yolov8n, not for yolo11n; set training\.model"):
        find_weights("yolo11n", str(checkpoint))


def test_weights_that_are_not_there(checkpoint, tmp_path):
    with pytest.raises(TrainingError, match="does not exist"):
        find_weights("yolov8n", str(tmp_path / "no.pt"))
    with pytest.raises(TrainingError, match=r"does not contain yolov8s.pt \(it contains yolov8n.pt\)"):
        find_weights("yolov8s", str(checkpoint.parent))
    with pytest.raises(TrainingError, match=r"it contains no \.pt file"):
        find_weights("yolov8s", str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04cut"])
def test_bytes_that_are_no_checkpoint(tmp_path, content):
    path = tmp_path / "yolov8n.pt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="is not an Ultralytics checkpoint") as caught:
        find_weights("yolov8n", str(path))
    assert "\n" not in str(caught.value)


def test_a_model_for_another_task_is_refused(tmp_path):
    import torch
    from ultralytics.nn.tasks import ClassificationModel

    model = ClassificationModel("yolov8n-cls.yaml", nc=2, verbose=False)
    model.task = "classify"
    torch.save({"model": model, "train_args": {}}, tmp_path / "yolov8n.pt")
    with pytest.raises(TrainingError, match="for 'classify', not a detector"):
        find_weights("yolov8n", str(tmp_path))


def test_auto_takes_what_lies_in_our_folder(checkpoint, home):
    folder = home / "weights"
    folder.mkdir()
    (folder / "yolov8n.pt").write_bytes(checkpoint.read_bytes())
    assert find_weights("yolov8n", "auto") == folder / "yolov8n.pt"


def test_auto_without_a_network_warns_once_and_starts_from_scratch(caplog):
    with caplog.at_level(logging.WARNING):
        assert find_weights("yolov8s", "auto") is None
    (record,) = caplog.records
    assert "no pretrained weights of yolov8s" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_auto_fetches_by_name_where_it_can(monkeypatch, checkpoint, home):
    from ultralytics.utils import downloads

    urls = []

    def download(url, file, **_):
        urls.append(url)
        file.write_bytes(checkpoint.read_bytes())

    monkeypatch.setattr(models, "is_offline", lambda: False)
    monkeypatch.setattr(downloads, "is_url", lambda url, check: check)
    monkeypatch.setattr(downloads, "safe_download", download)
    target = home / "weights" / "yolov5nu.pt"
    assert models._fetch("yolov5n", target)
    assert urls[0].endswith("/yolov5nu.pt")
    assert target.is_file()
    assert not models._fetch("yolov8n-p2", target)  # not published


@pytest.mark.parametrize("reachable", [True, False])
def test_a_failed_fetch_leaves_nothing(monkeypatch, home, reachable):
    from ultralytics.utils import downloads

    def download(url, file, **_):
        file.write_bytes(b"half")
        raise ConnectionError("reset")

    monkeypatch.setattr(models, "is_offline", lambda: False)
    monkeypatch.setattr(downloads, "is_url", lambda url, check: reachable)
    monkeypatch.setattr(downloads, "safe_download", download)
    target = home / "weights" / "yolo26n.pt"
    assert not models._fetch("yolo26n", target)
    assert not list(target.parent.glob("yolo26n*"))
