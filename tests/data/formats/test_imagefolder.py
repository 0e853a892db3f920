from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as, write_image
from visionops.data.dataset import Dataset
from visionops.data.files import safe_name
from visionops.data.findings import Code
from visionops.data.formats import recognize
from visionops.data.layers import Attribute
from visionops.data.listing import Listing
from visionops.data.settings import DataConfig, FolderSource
from visionops.errors import AnnotationError, DataError

NESTED = """\
---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: objects
    sequence:
    - name: bbox
      sequence: float32
      length: 4
    - name: categories
      dtype:
        class_label:
          names:
            '0': scratch
            '1': no
            '10': 007
            '2': off
---
# A data set
"""
LABEL = """\
---
dataset_info:
- config_name: default
  features:
  - name: label
    dtype:
      class_label:
        names: {'0': ok, '1': bent}
---
"""


def write(folder: Path, rows: list[dict], kind: str = "jsonl", column: str = "file_name") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(rows):
        write_image(folder / row[column], seed=i)
    if kind == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")
    else:
        keys = list(rows[0])
        lines = [",".join(keys), *(",".join(str(row[key]) for key in keys) for row in rows)]
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def boxes(count: int = 3, categories=lambda i: [i % 2, 3]) -> list[dict]:
    return [
        {"file_name": f"{i}.png", "objects": {"bbox": [[1, 2, 3, 4], [0.5, 0, 10, 16]], "categories": categories(i)}}
        for i in range(count)
    ]


def evidence(root: Path):
    return recognize(Listing(root), DataConfig(source=FolderSource(kind="folder", path=root)))


def classes_of(dataset: Dataset) -> list[str]:
    return [dataset.class_names[i] for i in dataset.boxes.column("class_id").to_pylist()]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("format_", ["auto", "imagefolder"])
def test_boxes_are_xywh_and_splits_are_folders(tmp_path, kind, format_):
    for split in ("train", "validation", "test"):
        write(tmp_path / "data" / split, boxes(), kind)
    (tmp_path / "README.md").write_text(NESTED)
    found = evidence(tmp_path)
    assert (found.format.value, found.evidence.layer) == ("imagefolder", "boxes")
    dataset = read_as(tmp_path, format_)
    assert dataset.split_counts() == {"train": 3, "val": 3, "test": 3}
    assert dataset.class_names == ("scratch", "no", "off", "007")
    row = dataset.column("key").index("data/train/1.png")
    assert dataset.boxes_of(row).xyxy.tolist() == [[1, 2, 4, 6], [0.5, 0, 10.5, 16]]
    assert dataset.boxes_of(row).class_ids.tolist() == [1, 3]
    assert not dataset.findings


def test_boxes_in_a_record_each_and_classes_as_texts(tmp_path):
    objects = [{"bbox": [1, 1, 2, 2], "category": "pit"}, {"bbox": [1, 1, 3, 3], "category": "Dent"}]
    write(tmp_path, [{"file_name": "0.png", "objects": objects}, {"file_name": "1.png", "objects": None}])
    dataset = read_as(tmp_path, "auto")
    assert dataset.class_names == ("Dent", "pit")
    assert classes_of(dataset) == ["pit", "Dent"]
    assert dataset.num_images == 2


def test_numbers_without_names_are_in_their_order_and_noted(tmp_path):
    write(tmp_path, boxes(3, lambda i: [10, 9]))
    dataset = read_as(tmp_path, "auto")
    assert dataset.class_names == ("9", "10")
    assert dataset.notes == ("Classes of objects are numbers that README.md does not name: 9, 10.",)


def test_an_object_that_is_wrong_is_a_finding_and_the_rest_is_read(tmp_path):
    rows = boxes(5)
    rows[0]["objects"]["bbox"][0] = [1, 2, 3]
    rows[1]["objects"]["categories"][1] = 9
    rows[2]["objects"]["bbox"].pop()
    rows[3]["objects"]["bbox"][0] = [0, 0, -4, 4]
    rows[4]["objects"]["categories"][0] = None
    write(tmp_path, rows)
    (tmp_path / "README.md").write_text(NESTED)
    dataset = read_as(tmp_path, "auto")
    assert [(f.code, f.where) for f in dataset.findings] == [
        (Code.BAD_BOX, "metadata.jsonl:1: object 1"),
        (Code.UNKNOWN_CATEGORY, "metadata.jsonl:2: object 2"),
        (Code.BAD_BOX, "metadata.jsonl:3: object 2"),
        (Code.BAD_BOX, "metadata.jsonl:4: object 1"),
        (Code.UNKNOWN_CATEGORY, "metadata.jsonl:5: object 1"),
    ]
    assert dataset.num_boxes == 5


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_columns_of_classes_are_attributes(tmp_path, kind):
    rows = [
        {"file_name": f"{i}.png", "label": ["ok", "bent"][i % 2], "rust": i % 3 == 0, "text": f"the {i}th of all"}
        for i in range(12)
    ]
    write(tmp_path, rows, kind)
    found = evidence(tmp_path)
    assert (found.format.value, found.evidence.layer) == ("imagefolder", "labels")
    dataset = read_as(tmp_path, "auto")
    assert dataset.attributes == (Attribute("label", ("bent", "ok")), Attribute("rust", ("false", "true"), "true"))
    assert dataset.label_array()[:2].tolist() == [[1, 1], [0, 0]]
    assert "Columns of the metadata that are not labels, left out: text (12 values in 12 rows)." in dataset.notes
    one = read_as(
        tmp_path, "imagefolder", labels={"state": {"column": "label", "classes": {"a": ["ok"], "b": ["bent"]}}}
    )
    assert one.attributes == (Attribute("state", ("a", "b"), "b"),)
    with pytest.raises(DataError, match="has no column 'lable'; did you mean 'label'"):
        read_as(tmp_path, "imagefolder", labels={"lable": {"classes": {"a": [1], "b": [2]}}})


def test_numbered_labels_take_their_names_from_the_readme(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / split, [{"file_name": f"{i}.png", "label": i % 2} for i in range(6)], "csv")
    (tmp_path / "README.md").write_text(LABEL)
    dataset = read_as(tmp_path, "auto")
    assert dataset.attributes == (Attribute("label", ("ok", "bent"), "bent"),)
    assert dataset.label_array()[:3].tolist() == [[0], [1], [0]]
    assert dataset.split_counts() == {"train": 6, "test": 6}


def test_other_names_of_the_column_and_names_below_the_metadata(tmp_path):
    rows = [{"image_file_name": f"train/{i}.png", "mask_file_name": "x.png", "label": "ab"[i % 2]} for i in range(6)]
    write(tmp_path, rows, "jsonl", "image_file_name")
    dataset = read_as(tmp_path, "auto")
    assert [a.name for a in dataset.attributes] == ["label"]
    assert dataset.split_counts() == {"train": 6}


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "C:\\a.png", ""])
def test_names_that_lead_elsewhere(tmp_path, name):
    write(tmp_path, boxes(2))
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": name, "objects": {"bbox": [], "categories": []}}) + "\n")
    dataset = read_as(tmp_path, "auto")
    assert [(f.code, f.where) for f in dataset.findings] == [(Code.UNSAFE_NAME, "metadata.jsonl:3")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no row with an image"),
        ('{"name": "a.png"}\n', "metadata.jsonl:1: lacks the column file_name"),
        ('{"file_name": "a.png", "label": "x"}\n{"file_name\n', "metadata.jsonl:2: not valid JSON"),
        ('{"file_name": "a.png"}\n[1]\n', "metadata.jsonl:2: must be an object"),
        (
            '{"file_name": 7, "label": 1}\n{"file_name": "a.png", "label": 2}\n',
            "metadata.jsonl:1: file_name must be the name of a file",
        ),
        ('{"file_name": "a.png"}\n', "has no column of labels"),
        (
            '{"file_name": "b.png", "label": "x"}\n{"file_name": "c.png", "label": "y"}\n',
            "no image of the metadata exists",
        ),
    ],
)
def test_metadata_that_cannot_be_read(tmp_path, text, words):
    write_image(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(AnnotationError) as caught:
        read_as(tmp_path, "imagefolder")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_metadata(tmp_path):
    write_image(tmp_path / "a/a.png")
    with pytest.raises(AnnotationError, match=r"no metadata\.jsonl, metadata\.csv or metadata\.parquet below it"):
        read_as(tmp_path, "imagefolder")


names = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/\\."), min_size=1, max_size=20
)
corner = st.floats(0, 15)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=st.dictionaries(
        names, st.lists(st.tuples(names, corner, corner, corner, corner), max_size=3), min_size=1, max_size=4
    ),
    kind=st.sampled_from(["jsonl", "parquet"]),
)
def test_round_trip(tmp_path_factory, made, kind):
    assume(all(safe_name(f"{name}.png") for name in made))  # "a:.png" may be a drive
    root = tmp_path_factory.mktemp("made")
    rows = []
    for name, objects in made.items():
        bbox, categories = [list(o[1:]) for o in objects], [o[0] for o in objects]
        rows.append({"file_name": f"{name}.png", "objects": {"bbox": bbox, "categories": categories}})
        (root / f"{name}.png").write_bytes(b"x")
    if kind == "jsonl":
        (root / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        objects_type = pa.struct([("bbox", pa.list_(pa.list_(pa.float64()))), ("categories", pa.list_(pa.string()))])
        schema = pa.schema([("file_name", pa.string()), ("objects", objects_type)])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "metadata.parquet")
    dataset = read_as(root, "imagefolder")
    if dataset.findings:  # names that look the same, which no reader can distinguish
        assert {f.code for f in dataset.findings} <= {Code.AMBIGUOUS_NAME, Code.ORPHAN_IMAGE}
        return
    assert dataset.column("key") == [f"{name}.png" for name in made]
    written = [(x, y, x + w, y + h) for objects in made.values() for _, x, y, w, h in objects]
    np.testing.assert_allclose(dataset.box_arrays()[2], np.array(written).reshape(-1, 4), atol=1e-6)
    categories = [o[0] for objects in made.values() for o in objects]
    folded = [name.casefold() for name in dataset.class_names]
    assert list(dataset.class_names) == sorted(dataset.class_names)
    assert [c.casefold() in folded for c in categories] == [True] * len(categories)


def mutated(value, chance: random.Random):
    """Return a JSON value with one value somewhere in it replaced."""
    odd = [None, True, -1, 10**30, 1e300, float("nan"), float("inf"), "", "\ud800", "../x", [], {}, [[[]]], {"bbox": 1}]
    if chance.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return chance.choice(odd)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [mutated(v, chance) if i == at else v for i, v in enumerate(value)]
    at = chance.choice(list(value))
    if chance.random() < 0.15:
        return {key: v for key, v in value.items() if key != at}
    return {key: mutated(v, chance) if key == at else v for key, v in value.items()}


@pytest.mark.parametrize("kind", ["boxes", "labels", "bytes", "readme"])
def test_damaged_metadata_is_one_line_or_a_data_set(tmp_path, kind):
    rows = (
        boxes(3)
        if kind != "labels"
        else [{"file_name": f"{i}.png", "label": i % 2, "x": "ab"[i % 2]} for i in range(3)]
    )
    write(tmp_path, rows)
    (tmp_path / "README.md").write_text(NESTED if kind != "labels" else LABEL)
    file = tmp_path / ("README.md" if kind == "readme" else "metadata.jsonl")
    whole, chance = file.read_bytes(), random.Random(3)
    for _ in range(60):
        if kind in ("bytes", "readme"):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(data))
                data[at : at + chance.randint(0, 5)] = chance.choice([b"", b"\xff", b"[", b"&a *a", b'"', b"{}", b": "])
            file.write_bytes(bytes(data))
        else:
            hurt = mutated(rows, chance)
            lines = hurt if isinstance(hurt, list) else [hurt]
            file.write_text("".join(f"{json.dumps(row)}\n" for row in lines))
        began, message = time.monotonic(), ""
        for format_ in ("auto", "imagefolder"):
            try:
                read_as(tmp_path, format_)
            except DataError as error:
                message = str(error)
            assert "\n" not in message
        assert time.monotonic() - began < 5
