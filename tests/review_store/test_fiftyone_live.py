"""A real FiftyOne reads our exports, and we read its exports; it has its own environment: make fiftyone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.review import ANNA, BOX, NOW, png
from tests.review_store.test_exchange import decide, read
from visionops.data.settings import Format
from visionops.review.exchange import write_export
from visionops.review.service import Review
from visionops.tasks.spec import task_for

pytestmark = [
    pytest.mark.skipif("VISIONOPS_FIFTYONE_PYTHON" not in os.environ, reason="needs FiftyOne: make fiftyone"),
    pytest.mark.timeout(600),
]
SCRIPT = """
import json, sys
from fiftyone.utils.data import exporters, importers

source, target, kind = sys.argv[1:]
importer = getattr(importers, f"FiftyOneImage{kind}DatasetImporter")(dataset_dir=source)
exporter = getattr(exporters, f"FiftyOneImage{kind}DatasetExporter")(export_dir=target, export_media=True)
seen = {}
with importer, exporter:
    for path, metadata, label in importer:
        exporter.export_sample(path, label, metadata=metadata)
        found = label.label if kind == "Classification" else [[d.label, *d.bounding_box] for d in label.detections]
        seen[path] = found
print("SEEN", json.dumps(seen))
"""


def through_fiftyone(source: Path, target: Path, kind: str) -> dict[str, Any]:
    """Return the content of an export by FiftyOne's importer, by file name; its exporter writes it again.

    A FiftyOne dataset needs MongoDB, which is not a Python package. FiftyOne itself uses this importer and exporter.
    """
    environment = {**os.environ, "FIFTYONE_DO_NOT_TRACK": "true", "HOME": str(target.parent)}
    command = [os.environ["VISIONOPS_FIFTYONE_PYTHON"], "-c", SCRIPT, str(source), str(target), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    return {Path(path).name: label for path, label in json.loads(line.removeprefix("SEEN ")).items()}


@pytest.fixture
def review(opened, sqlite_database: str, folder: str) -> Review:
    return opened(sqlite_database, folder)


def test_boxes_go_to_fiftyone_and_come_back(review: Review, tmp_path: Path):
    labels = [BOX, {"boxes": [{"class_name": "scratch", "box": [0.25, 0.5, 63.75, 47.5]}, *BOX["boxes"]]}]
    for number, label in enumerate(labels):
        decide(review, "steel", number, label)
    review.export("steel", ANNA, key="e", now=NOW)
    found = review.store.version("steel", 1)
    write_export(review, "steel", found, Format.FIFTYONE, tmp_path / "out")
    seen = through_fiftyone(tmp_path / "out", tmp_path / "back", "Detection")
    wanted = {f"{item.image.sha256}.png": (decision.label or {})["boxes"] for item, decision in found}
    assert set(seen) == set(wanted)
    for name, boxes in wanted.items():
        for (label, x, y, width, height), box in zip(seen[name], boxes, strict=True):
            x1, y1, x2, y2 = box["box"]
            assert label == box["class_name"]
            assert [64 * x, 48 * y, 64 * (x + width), 48 * (y + height)] == pytest.approx([x1, y1, x2, y2], abs=1e-4)
    back = read(tmp_path / "back", Format.FIFTYONE, "detection")
    for path, label in zip(back.paths(), task_for("detection").labels_in(back), strict=True):
        kept = wanted[path.name]
        assert [one["class_name"] for one in label["boxes"]] == [one["class_name"] for one in kept]
        for one, other in zip(label["boxes"], kept, strict=True):
            assert one["box"] == pytest.approx(other["box"], abs=1e-4)


def test_classes_go_to_fiftyone_and_come_back(review: Review, tmp_path: Path):
    for number, name in enumerate(("ok", "defective", "ok")):
        decide(review, "casting", number, {"class_name": name})
    review.export("casting", ANNA, key="e", now=NOW)
    found = review.store.version("casting", 1)
    write_export(review, "casting", found, Format.FIFTYONE, tmp_path / "out")
    seen = through_fiftyone(tmp_path / "out", tmp_path / "back", "Classification")
    wanted = {f"{item.image.sha256}.png": (decision.label or {})["class_name"] for item, decision in found}
    assert seen == wanted
    assert all((tmp_path / "out" / "data" / name).read_bytes() in [png(n) for n in range(3)] for name in seen)
    back = read(tmp_path / "back", Format.FIFTYONE, "classification")
    labels = task_for("classification").labels_in(back)
    assert {path.name: label["class_name"] for path, label in zip(back.paths(), labels, strict=True)} == wanted
