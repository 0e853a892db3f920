"""Label Studio's JSON and JSON-MIN."""

from __future__ import annotations

import base64
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as, write_image, write_json
from tests.helpers.exports import Made, export_label_studio, export_label_studio_min, rectangle, task
from tests.helpers.mutations import fuzz_file
from visionops.data.findings import Code
from visionops.errors import AnnotationError

SIZE = (200, 100)
IMAGE = Made("a.png", *SIZE, [])
EXPORTS = [export_label_studio, export_label_studio_min]


def read(root: Path, tasks: list[Any], images: tuple[str, ...] = ("a.png",), format_: str = "auto") -> Any:
    for i, name in enumerate(images):
        write_image(root / name, SIZE, seed=i)
    write_json(root / "project-1.json", tasks)
    return read_as(root, format_)


def boxes(dataset: Any) -> list[tuple[float, ...]]:
    return [tuple(round(b[c], 6) for c in ("x1", "y1", "x2", "y2")) for b in dataset.boxes.to_pylist()]


def codes(dataset: Any) -> list[Code]:
    return [finding.code for finding in dataset.findings]


def keys(dataset: Any) -> list[str]:
    return dataset.images.column("key").to_pylist()


names = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters='/\\"'), min_size=2, max_size=12
).filter(lambda name: name[0] != "." and name[1] != ":")


@st.composite
def projects(draw: st.DrawFn) -> list[Made]:
    stems = draw(st.lists(names, min_size=1, max_size=3, unique_by=lambda n: n.casefold().replace("%", "")))
    side = st.floats(0, 1)
    made = []
    for i, stem in enumerate(stems):
        width, height = draw(st.integers(8, 60)), draw(st.integers(8, 60))
        own = []
        for _ in range(draw(st.integers(0, 2))):
            (x1, x2), (y1, y2) = sorted((draw(side), draw(side))), sorted((draw(side), draw(side)))
            own.append((draw(names), (x1 * width, y1 * height, x2 * width, y2 * height)))
        made.append(Made(f"{i}{stem}.png", width, height, own))
    return made


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("format_", ["auto", "label_studio"])
@settings(max_examples=25, deadline=None)
@given(images=projects())
def test_round_trip(export: Any, format_: str, images: list[Made]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder), images, [])
        dataset = read_as(Path(folder), format_)
        assert not dataset.findings
        assert keys(dataset) == [image.name for image in images]
        wanted = [(image.name, *own) for image in images for own in image.boxes]
        found = dataset.boxes.to_pylist()
        assert len(found) == len(wanted)
        for box, (name, class_name, xyxy) in zip(found, wanted, strict=True):
            assert images[box["image"]].name == name
            assert "".join(dataset.class_names[box["class_id"]].casefold().split()) == "".join(
                class_name.casefold().split()
            ) or class_name in " ".join(dataset.notes)
            assert [box[c] for c in ("x1", "y1", "x2", "y2")] == pytest.approx(xyxy, abs=1e-4)


@given(
    x=st.floats(0, 100),
    y=st.floats(0, 100),
    w=st.floats(1, 60),
    h=st.floats(1, 60),
    angle=st.floats(-360, 360),
)
@settings(max_examples=60, deadline=None)
def test_rotated_rectangle_is_bounded_by_the_corners_turned_in_pixels(
    x: float, y: float, w: float, h: float, angle: float
) -> None:
    from visionops.data.formats.label_studio_regions import Region, bounds

    value = {"x": x, "y": y, "width": w, "height": h, "rotation": angle}
    box, _ = bounds(Region("rectangle", ("a",), value), *SIZE)
    corner = complex(x * 2, y)
    turn = complex(math.cos(math.radians(angle)), math.sin(math.radians(angle)))  # y points down: clockwise
    corners = [corner + turn * complex(dx, dy) for dx in (0, w * 2) for dy in (0, h)]
    xs, ys = [c.real for c in corners], [c.imag for c in corners]
    assert box == pytest.approx((min(xs), min(ys), max(xs), max(ys)), abs=1e-6)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("/data/upload/3/abcd1234-a.png", "a.png"),
        ("/data/upload/3/abcd1234-a.png", "images/abcd1234-a.png"),
        ("/data/local-files/?d=parts/sub/a.png", "sub/a.png"),
        ("/data/local-files/?d=parts%2Fsub%2Fa%20b.png", "sub/a b.png"),
        ("http://localhost:8080/data/local-files/?d=a%23b.png", "a#b.png"),
        ("s3://bucket/deep/er/a.png", "a.png"),
        ("gs://bucket/er/a#1?.png", "er/a#1?.png"),
        ("https://host.example/x/a%20b.png?X-Amz-Signature=0f/3.jpg&e=1", "a b.png"),
        ("/tasks/1/resolve/?fileuri=" + base64.urlsafe_b64encode("s3://b/x/ä.png".encode()).decode(), "ä.png"),
        ("s3://bucket/1fileuri=.png", "1fileuri=.png"),
        ("images/a.png", "images/a.png"),
    ],
)
def test_the_path_of_the_url_names_the_image(tmp_path: Path, url: str, file: str) -> None:
    dataset = read(tmp_path, [task(1, url, [rectangle(IMAGE, "pit", (0, 0, 100, 50))])], (file, "other/z.png"))
    assert keys(dataset) == [file]
    assert boxes(dataset) == [(0, 0, 100, 50)]


def test_two_urls_never_share_a_file(tmp_path: Path) -> None:
    drawn = [rectangle(IMAGE, "pit", (0, 0, 100, 50))]
    dataset = read(tmp_path, [task(1, "s3://b/x/a.png", drawn), task(2, "s3://b/y/a.png", drawn)])
    assert codes(dataset) == [Code.AMBIGUOUS_NAME] * 2 + [Code.ORPHAN_IMAGE]
    both = read(tmp_path, [task(1, "s3://b/x/a.png", drawn), task(2, "s3://b/y/a.png", [])], ("x/a.png", "y/a.png"))
    assert keys(both) == ["x/a.png", "y/a.png"]


def test_unsafe_names_are_refused(tmp_path: Path) -> None:
    drawn = [rectangle(IMAGE, "pit", (0, 0, 100, 50))]
    urls = ["/data/local-files/?d=../a.png", "C:\\data\\a.png", "s3://b/../../a.png"]
    dataset = read(tmp_path, [task(i, url, drawn) for i, url in enumerate(urls)])
    assert codes(dataset)[:3] == [Code.UNSAFE_NAME] * 3
    assert dataset.num_images == 0


def test_missing_images_say_where_to_put_them(tmp_path: Path) -> None:
    dataset = read(tmp_path, [task(1, "/data/upload/1/0123abcd-x.png", [])], ())
    (finding,) = dataset.findings
    assert finding.code is Code.MISSING_IMAGE
    assert finding.message.endswith("exports hold no images: put them beside the JSON")


def test_one_annotation_of_a_task_counts(tmp_path: Path) -> None:
    def annotation(x: float, number: int, **other: Any) -> dict[str, Any]:
        return {"id": number, "result": [rectangle(IMAGE, "pit", (x, 0, 20, 20))], **other}

    last = [annotation(1, 2, updated_at="2024-02-01"), annotation(2, 1, updated_at="2024-03-01")]
    truth = [annotation(3, 1, ground_truth=True), annotation(4, 2)]
    cancelled = [annotation(5, 1), annotation(6, 2, was_cancelled=True)]
    urls = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    tasks = [
        {"id": i, "data": {"image": url}, "annotations": own, "predictions": [{"result": []}]}
        for i, (url, own) in enumerate(zip(urls, [last, truth, cancelled, [], [{"id": 3, "result": []}]], strict=True))
    ]
    dataset = read(tmp_path, tasks, tuple(urls))
    assert keys(dataset) == ["a.png", "b.png", "c.png", "e.png"]
    assert [box[0] for box in boxes(dataset)] == [2, 3, 5]
    assert not dataset.findings
    said = " ".join(dataset.notes)
    for part in (
        "1 task without an annotation",
        "2 tasks with several annotations",
        "1 annotation left out",
        "Predictions of 5 tasks",
    ):
        assert part in said


def test_shapes(tmp_path: Path) -> None:
    def result(type_: str, **value: Any) -> dict[str, Any]:
        own = {"type": type_, "original_width": 200, "original_height": 100}
        return {**own, "value": value, "from_name": "x", "to_name": "image"}

    a = [
        result("polygonlabels", points=[[10, 10], [20, 10], [15, 40]], polygonlabels=["tri"]),
        result("ellipselabels", x=50, y=50, radiusX=10, radiusY=10, rotation=90, ellipselabels=["oval"]),
        {**result("rectangle", x=0, y=0, width=10, height=10), "id": "r"},
        {**result("labels", x=0, y=0, width=10, height=10, labels=["Car"]), "id": "r"},
        {**result("choices", choices=["rusty"]), "id": "r"},
        result("rectangle", x=0, y=0, width=10, height=10),
        result("keypointlabels", x=1, y=1, width=1, keypointlabels=["eye"]),
        {"type": "relation", "from_id": "r", "to_id": "q"},
    ]
    brush = [result("brushlabels", format="rle", rle=[0, 1], brushlabels=["stain"])]
    tasks = [task(1, "a.png", a), task(2, "b.png", brush)]
    dataset = read(tmp_path, tasks, ("a.png", "b.png"))
    assert dataset.class_names == ("Car", "oval", "tri")
    assert boxes(dataset) == [(20, 10, 40, 40), (90, 30, 110, 70), (0, 0, 20, 10)]
    assert keys(dataset) == ["a.png"]
    assert codes(dataset) == [Code.UNKNOWN_CATEGORY, Code.CROWD_ONLY]
    assert dataset.findings[1].images == ("b.png",)
    said = " ".join(dataset.notes)
    assert "1 x brush, 1 x keypoint" in said
    assert "1 x choices, 1 x relation" in said


def test_a_turned_image_is_reported(tmp_path: Path) -> None:
    drawn = {**rectangle(IMAGE, "pit", (0, 0, 100, 50)), "image_rotation": 90}
    assert codes(read(tmp_path, [task(1, "a.png", [drawn])])) == [Code.SUSPECT_COORDINATES]


def test_only_choices_are_classes_of_images(tmp_path: Path) -> None:
    def chosen(*names: str) -> list[dict[str, Any]]:
        return [{"type": "choices", "from_name": "state", "to_name": "image", "value": {"choices": list(names)}}]

    tasks = [task(i, f"{i}.png", chosen(*own)) for i, own in enumerate([("ok",), ("bad",), ("ok",), ("ok", "bad")])]
    dataset = read(tmp_path, tasks, tuple(f"{i}.png" for i in range(4)))
    (attribute,) = dataset.attributes
    assert (attribute.name, attribute.class_names) == ("state", ("bad", "ok"))
    assert codes(dataset) == [Code.CONFLICTING_LABEL]
    assert dataset.images.column("split").to_pylist() == ["", "", "", "unlabelled"]


def test_choices_of_json_min(tmp_path: Path) -> None:
    records = [
        {"image": f"/data/upload/1/{i}.png", "id": i, "choice": own, "annotator": 1, "annotation_id": i}
        for i, own in enumerate(["ok", "bad", "ok"])
    ]
    dataset = read(tmp_path, records, ("0.png", "1.png", "2.png"))
    assert [(a.name, a.class_names) for a in dataset.attributes] == [("choice", ("bad", "ok"))]


def test_records_of_one_task_are_its_annotations(tmp_path: Path) -> None:
    region = {"x": 0, "y": 0, "width": 10, "height": 10, "rotation": 0, "rectanglelabels": ["pit"]}
    region |= {"original_width": 200, "original_height": 100}
    records = [
        {"image": "a.png", "id": 7, "label": [region], "annotator": 1, "annotation_id": 1, "updated_at": "2024-01-02"},
        {"image": "a.png", "id": 7, "label": [], "annotator": 2, "annotation_id": 2, "updated_at": "2024-01-01"},
    ]
    dataset = read(tmp_path, records)
    assert boxes(dataset) == [(0, 0, 20, 10)]
    assert not dataset.findings


def test_other_json_is_not_claimed(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    for content in ([{"image": "a.png", "caption": "x"}], [{"data": {}}], {"annotations": []}, [1], []):
        write_json(tmp_path / "x.json", content)
        with pytest.raises(AnnotationError, match="no labels that any reader knows"):
            read_as(tmp_path, "auto")
        with pytest.raises(AnnotationError, match="list of Label Studio's tasks"):
            read_as(tmp_path, "label_studio")


@pytest.mark.parametrize("export", EXPORTS)
def test_mutations_end_in_a_data_set_or_one_line(tmp_path: Path, export: Any) -> None:
    images = [Made("a b.png", 20, 16, [("x", (1, 2, 5, 6)), ("ü", (0, 0, 20, 16))]), Made("e.png", 20, 16, [])]
    export(tmp_path, images, [])
    (file,) = tmp_path.glob("*.json")
    fuzz_file(tmp_path, file, "label_studio")
