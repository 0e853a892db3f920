"""Import folders of images into a review, and export decided labels: exports are read back unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.review import ANNA, BEA, BOX, NOW, STEEL, UPLOAD, png
from visionops.data.dataset import Dataset
from visionops.data.formats import read_dataset
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig, FolderSource, Format
from visionops.errors import DataError
from visionops.review.errors import Invalid
from visionops.review.exchange import EXPORTS, check_export, import_images, scheme_of, write_export
from visionops.review.items import UseCase
from visionops.review.ports import ItemFilter
from visionops.review.service import Answer, Arrival, Origin, Review
from visionops.review.states import Actor, State, Verdict
from visionops.tasks.labelling import LabelScheme, Question
from visionops.tasks.spec import task_for

FACES = UseCase(
    "faces",
    "attributes",
    LabelScheme(
        questions=(
            Question(name="hat", class_names=("no", "yes")),
            Question(name="mood", class_names=("glad", "sad")),
        )
    ),
)


@pytest.fixture
def review(opened, sqlite_database: str, folder: str) -> Review:
    made = opened(sqlite_database, folder)
    made.put_use_case(FACES)
    return made


def decide(review: Review, case: str, number: int, label) -> str:
    item = review.add(case, png(number), Arrival(Origin.UPLOAD), ANNA, key=f"a{number}", now=NOW).item.id
    review.claim(item, ANNA, key=f"c{number}", now=NOW)
    review.decide(item, Answer(Verdict.CORRECT, label=label), ANNA, key=f"d{number}", now=NOW)
    return item


def read(folder: Path, format_: Format, task: str) -> Dataset:
    data = DataConfig(source=FolderSource(kind="folder", path=folder), format=format_)
    return read_dataset(folder, data, "x", task_for(task).fit_dataset)


@pytest.mark.parametrize("format_", EXPORTS)
def test_boxes_are_read_back_as_they_were_decided(review: Review, tmp_path: Path, format_: Format):
    labels = [
        BOX,
        {"boxes": []},
        {"boxes": [{"class_name": "scratch", "box": [0.25, 0.5, 63.75, 47.5]}, *BOX["boxes"]]},
    ]
    items = [decide(review, "steel", number, label) for number, label in enumerate(labels)]
    review.export("steel", ANNA, key="e", now=NOW)
    found = review.store.version("steel", 1)
    out = tmp_path / "out"
    write_export(review, "steel", found, format_, out)
    back = read(out, format_, "detection")
    wanted = dict(zip(items, labels, strict=True))
    by_hash = {item.image.sha256: wanted[item.id] for item, _ in found}
    assert back.num_images == 3
    for path, label in zip(back.paths(), task_for("detection").labels_in(back), strict=True):
        assert not path.is_symlink()
        assert path.read_bytes() in [png(n) for n in range(3)]
        kept = by_hash[path.stem]["boxes"]
        assert [one["class_name"] for one in label["boxes"]] == [one["class_name"] for one in kept]
        for one, other in zip(label["boxes"], kept, strict=True):
            assert one["box"] == pytest.approx(other["box"], abs=1e-4)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


@pytest.mark.parametrize(
    ("case", "task", "labels"),
    [
        ("casting", "classification", [{"class_name": "ok"}, {"class_name": "defective"}]),
        (
            "faces",
            "attributes",
            [{"attributes": {"hat": "yes", "mood": None}}, {"attributes": {"hat": "no", "mood": "sad"}}],
        ),
    ],
)
def test_classes_of_whole_images_are_read_back(review: Review, tmp_path: Path, case, task, labels):
    for number, label in enumerate(labels):
        decide(review, case, number, label)
    review.export(case, ANNA, key="e", now=NOW)
    found = review.store.version(case, 1)
    write_export(review, case, found, Format.CSV, tmp_path / "out")
    back = read(tmp_path / "out", Format.TABLE, task)
    by_hash = {item.image.sha256: decision.label for item, decision in found}
    read_back = dict(zip((path.stem for path in back.paths()), task_for(task).labels_in(back), strict=True))
    assert read_back == by_hash


def test_a_class_of_each_image_is_read_back_from_fiftyone(review: Review, tmp_path: Path):
    for number, name in enumerate(("ok", "defective", "ok")):
        decide(review, "casting", number, {"class_name": name})
    review.export("casting", ANNA, key="e", now=NOW)
    found = review.store.version("casting", 1)
    write_export(review, "casting", found, Format.FIFTYONE, tmp_path / "out")
    back = read(tmp_path / "out", Format.FIFTYONE, "classification")
    assert back.attributes[0].class_names == ("ok", "defective")  # in the order of the scheme, not of the alphabet
    by_hash = {item.image.sha256: decision.label for item, decision in found}
    labels = task_for("classification").labels_in(back)
    assert dict(zip((path.stem for path in back.paths()), labels, strict=True)) == by_hash


def test_several_attributes_have_no_place_in_fiftyone(review: Review, tmp_path: Path):
    with pytest.raises(Invalid, match="format: attributes is written as csv, not fiftyone"):
        check_export(review, "faces", Format.FIFTYONE, tmp_path / "out")


def test_what_cannot_be_written_is_said_before_a_version_is_made(review: Review, tmp_path: Path):
    with pytest.raises(Invalid, match="format: classification is written as csv, fiftyone, not coco"):
        check_export(review, "casting", Format.COCO, tmp_path / "out")
    with pytest.raises(Invalid, match="format: detection is written as coco, yolo, csv, fiftyone, not voc"):
        check_export(review, "steel", Format.VOC, tmp_path / "out")
    with pytest.raises(DataError, match="is there; choose another folder"):
        check_export(review, "steel", Format.COCO, tmp_path)


def dataset(folder: Path, names: list[str], **more) -> Dataset:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    return Dataset.from_columns(
        "x", STEEL.scheme.class_names, {"key": names, "path": [str(folder / name) for name in names]}, more
    )


def test_a_folder_taken_in_again_changes_nothing(review: Review, tmp_path: Path):
    images = dataset(tmp_path / "new", ["a/1.png", "b/2.png", "'; DROP.png"])
    (tmp_path / "new" / "b" / "2.png").write_bytes(b"no image")
    for expected in ((2, 0), (2, 0)):  # the second time each write gets its first answer
        found = import_images(review, "steel", images, ANNA, NOW, labelled=False)
        assert (found.new, found.known) == expected
        (line,) = found.refused
        assert line.startswith("b/2.png: ")
    assert sorted(item.first.name for item in review.store.items(ItemFilter("steel"))) == ["'; DROP.png", "a/1.png"]
    images.paths()[0].unlink()
    assert "cannot be read (no such file" in import_images(review, "steel", images, BEA, NOW, labelled=False).refused[0]


def test_another_folder_may_have_other_images_of_the_same_names(review: Review, tmp_path: Path):
    for number, folder in enumerate(("monday", "tuesday")):
        images = dataset(tmp_path / folder, ["1.png", "2.png"])
        (tmp_path / folder / "1.png").write_bytes(png(10 + number))
        found = import_images(review, "steel", images, ANNA, NOW, labelled=False)
        assert found.refused == ()
    assert len(review.store.items(ItemFilter("steel"))) == 3


def test_labels_come_as_proposals_or_as_decisions(review: Review, tmp_path: Path):
    boxes = {"image": [0, 1], "class_id": [1, 0], "x1": [1, 0], "y1": [2, 0], "x2": [30, 99], "y2": [40, 9]}
    images = dataset(tmp_path / "new", ["1.png", "2.png"], **boxes)
    found = import_images(review, "steel", images, ANNA, NOW, labelled=True)
    assert (found.new, found.decided) == (1, 0)
    assert "exceeds the image of 64 x 48 pixels" in found.refused[0]
    (item,) = review.store.items(ItemFilter("steel"))
    assert (item.status.state, item.first.proposed) == (State.PENDING, BOX)
    for decided in (1, 0):
        found = import_images(review, "steel", images, Actor("import"), NOW, labelled=True, decided=True)
        assert found.decided == decided or found.decided == 1  # its writes get their first answers
    (decision,) = review.store.decisions(item.id)
    assert (decision.reviewer, decision.label) == ("import", BOX)


def test_an_image_in_somebodys_hands_is_not_decided_by_an_import(review: Review, tmp_path: Path):
    boxes = {"image": [0], "class_id": [1], "x1": [1], "y1": [2], "x2": [30], "y2": [40]}
    images = dataset(tmp_path / "new", ["1.png"], **boxes)
    item = review.add("steel", png(0), UPLOAD, ANNA, key="a", now=NOW).item.id
    review.claim(item, BEA, key="c", now=NOW)
    found = import_images(review, "steel", images, ANNA, NOW, labelled=True, decided=True)
    assert (found.new, found.known, found.decided) == (0, 1, 0)
    assert review.store.item(item).status.holder == "bea"


def test_what_can_be_answered_is_that_of_the_data_set(tmp_path: Path):
    assert scheme_of(dataset(tmp_path, ["1.png"])) == STEEL.scheme
    attributes = [Attribute("label", ("ok", "defective"))]
    classes = Dataset.from_columns("x", (), {"key": ["1"]}, {}, attributes=attributes, labels={"label": [0]})
    assert scheme_of(classes) == LabelScheme(questions=(Question(name="label", class_names=("ok", "defective")),))
