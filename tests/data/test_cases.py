"""Exports of common tools, each with its expected result, read with the given format and with ``format: auto``."""

from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Severity
from visionops.data.formats import read_dataset
from visionops.data.settings import DataConfig, ValidationPolicy
from visionops.data.sources import fetch
from visionops.data.validation.judging import validate
from visionops.data.validation.report import ValidationReport
from visionops.errors import AnnotationError

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is absent"),
]


@dataclasses.dataclass(frozen=True)
class Right:
    """Expected result of a case."""

    images: int
    boxes: int = 0
    classes: tuple[str, ...] = ("scratch", "pit")
    codes: tuple[Code, ...] = ()
    """Codes in the report, each once."""
    note: str = ""
    splits: dict[str, int] | None = None


PIT_FIRST = ("pit", "scratch")
RIGHT = {
    "taco_repeated_ids": Right(12, 24, ("Can", "Cigarette"), note="1 annotation id repeats (4)"),
    "masks_beside_images": Right(24, 0, ("crack", "good"), (Code.MASK_IMAGE,)),
    "ls_coco_windows": Right(12, 12, note="backslashes"),
    "ls_yolo_percent": Right(12, 12, PIT_FIRST, note="6 label files found by less than the exact name"),
    "ls_yolo_plain": Right(12, 12, PIT_FIRST),
    "ls_voc": Right(12, 12, PIT_FIRST),
    "labelimg_flat": Right(12, 12, PIT_FIRST),
    "cvat_yolo_1_1": Right(12, 12, PIT_FIRST),
    "labelme_json": Right(12, 12, PIT_FIRST),
    "coco_nfd_names": Right(12, 12, note="Unicode normal form"),
    "mac_screenshot_names": Right(16, 0, ("defective", "ok")),
    "cvat_coco_subset": Right(12, 12),
    "coco_first_missing": Right(12, 12, codes=(Code.MISSING_IMAGE,)),
    "one_missing": Right(13, 13, codes=(Code.MISSING_IMAGE,)),
    "voc_subfolders_passes": Right(24, 24, PIT_FIRST),
    "mac_zip": Right(12, 0, ("defective", "ok"), (Code.SYSTEM_FILE,)),
    "windows_zip": Right(12, 0, ("defective", "ok")),
    "azure_coco_fractions": Right(12, 12, note="all boxes are fractions"),
    "yolo_pose_2d": Right(12, 12, PIT_FIRST, splits={"train": 8, "val": 4}),
    "cvat_brush_mixed": Right(8, 8, codes=(Code.CROWD_ONLY,), note="4 crowd annotations"),
    "yolo_names_no_yes": Right(12, 12, ("off", "on", "007"), splits={"train": 8, "val": 4}),
    "voc_class_case": Right(12, 12, PIT_FIRST, note="'Scratch' is merged with 'scratch'"),
    "table_nan_values": Right(
        18,
        0,
        ("rust=0", "rust=1", "colour=NA", "colour=None", "colour=grey", "colour=red"),
        (Code.MISSING_LABEL,),
        note="6 missing values in column rust: 6 x nan",
    ),
    "twelve_bit_png": Right(12, 12, codes=(Code.SIXTEEN_BIT, Code.WHITE_LEVEL)),
    "val_without_boxes": Right(24, 18, codes=(Code.SPLIT_WITHOUT_BOXES,)),
    "roboflow_coco": Right(
        16, 16, PIT_FIRST, note="'weld-defects' has no box", splits={"train": 8, "val": 4, "test": 4}
    ),
    "roboflow_yolo_no_test": Right(14, 14, PIT_FIRST, note="test: ../test/images is missing"),
}
BOXES = {
    "azure_coco_fractions": [20, 10, 50, 40],
    "yolo_pose_2d": [60, 30, 90, 60],
    "labelimg_flat": [20, 10, 50, 40],
    "labelme_json": [20, 10, 50, 40],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


def opened(case: str, cache: Path) -> tuple[dict[str, Any], str]:
    """Return the use case and the name of a case; unpack it first if it is in a tar."""
    folder = CASES / case
    if not folder.is_dir():
        with tarfile.open(CASES / f"{case}.tar") as archive:
            archive.extractall(cache, filter="data")
        folder = cache / case
    raw = yaml.safe_load((folder / "config.yaml").read_text())
    source = raw["data"]["source"]
    source["path"] = str(folder / Path(source["path"]).name)
    return raw["data"], raw["name"]


def read(case: str, cache: Path, **changes: Any) -> Dataset:
    raw, name = opened(case, cache)
    data = DataConfig.model_validate({**raw, **changes})
    return read_dataset(fetch(data.source, cache), data, name)


def report_on(dataset: Dataset) -> ValidationReport:
    return validate(dataset, ValidationPolicy(min_images=1))


@pytest.mark.parametrize("is_auto", [False, True], ids=["as given", "auto"])
@pytest.mark.parametrize("case", RIGHT)
def test_the_expected_result(case, is_auto, cache):
    changes = {"format": "auto", "annotations": None} if is_auto else {}
    dataset, right = read(case, cache, **changes), RIGHT[case]
    assert (dataset.num_images, dataset.num_boxes) == (right.images, right.boxes)
    assert dataset.all_class_names == right.classes
    assert right.note in " ".join(dataset.notes)
    assert tuple(report_on(dataset).counts_by_code()) == right.codes
    if right.splits:
        assert dataset.split_counts() == right.splits
    if case in BOXES:
        assert dataset.boxes_of(0).xyxy.round(3).tolist() == [BOXES[case]]


def test_one_missing_file_is_one_error(cache):
    for case in ("one_missing", "coco_first_missing"):
        errors = report_on(read(case, cache)).errors
        assert [error.code for error in errors] == [Code.MISSING_IMAGE]


def test_images_that_would_become_background_are_named(cache):
    finding = next(f for f in read("cvat_brush_mixed", cache).findings if f.code is Code.CROWD_ONLY)
    assert finding.images == tuple(f"images/{i:04d}.png" for i in (0, 3, 6, 9))
    whole = read("cvat_brush_mixed", cache, crowds="objects")
    assert (whole.num_images, whole.num_boxes) == (12, 12)


def test_masks_are_named(cache):
    finding = next(f for f in read("masks_beside_images", cache).findings if f.code is Code.MASK_IMAGE)
    assert len(finding.images) == 24
    assert all(name.endswith(".png") for name in finding.images)


def test_classes_that_differ_in_case_are_kept_by_either_name(cache):
    for name in ("scratch", "Scratch", " SCRATCH "):
        assert read("voc_class_case", cache, categories=(name,)).num_boxes == 8


def test_phone_images_are_read_or_named(cache):
    dataset = read("folders_jfif_heic", cache)
    report = report_on(dataset)
    named = {key for finding in report.findings for key in finding.images}
    facts = zip(report.facts["key"].to_pylist(), report.facts["problem"].to_pylist(), strict=True)
    usable = [key for key, problem in facts if not problem]
    folder = CASES / "folders_jfif_heic/data"
    files = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    assert set(usable) | named == files
    assert sum(key.endswith(".jfif") for key in usable) == sum(key.endswith(".jfif") for key in files) > 0


def test_twelve_bits_are_scaled_by_their_own_white(cache):
    dataset = read("twelve_bit_png", cache)
    report = report_on(dataset)
    assert "12 bits (largest value 3408): scaled by 4095" in next(
        f.message for f in report.findings if f.code is Code.WHITE_LEVEL
    )
    assert clean(dataset, report).white == 4095


def test_a_val_split_without_an_object_stops(cache):
    finding = next(f for f in report_on(read("val_without_boxes", cache)).findings if f.where == "val")
    assert finding.severity is Severity.ERROR
    assert "cannot choose an epoch" in finding.message


@pytest.mark.parametrize("format_", ["folders", "auto", "mvtec"])
def test_good_parts_alone_are_refused(format_, cache):
    with pytest.raises(AnnotationError, match=r"MVTec AD layout .* anomaly detection is not"):
        read("mvtec_layout", cache, format=format_)
