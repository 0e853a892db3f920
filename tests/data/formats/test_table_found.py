"""Tables with ``format: auto``: which file, which delimiter, which columns."""

from __future__ import annotations

import datetime
import io
import math
import random
import time
import zipfile
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as, write_image
from visionops.data.dataset import Dataset
from visionops.data.findings import Code
from visionops.data.formats import recognize
from visionops.data.formats.cells import cell_text, read_rows
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.table import detect
from visionops.data.listing import Listing
from visionops.data.settings import DataConfig, FolderSource
from visionops.errors import AnnotationError, DataError

HEADER = ["image", "state", "rust"]
CELLS = [(f"{i:03d}.png", ("ok", "bent")[i % 2], i % 3 if i % 4 else None) for i in range(12)]


def answers(dataset: Dataset) -> dict[str, tuple[str | None, ...]]:
    rows = zip(dataset.column("key"), dataset.label_array().tolist(), strict=True)
    return {
        key: tuple((*a.class_names, None)[i] for a, i in zip(dataset.attributes, ids, strict=True)) for key, ids in rows
    }


def expected(prefix: str = "") -> dict[str, tuple[str | None, ...]]:
    return {prefix + name: (state, None if rust is None else str(rust)) for name, state, rust in CELLS}


def write_images(root: Path, prefix: str = "") -> None:
    for i, (name, *_) in enumerate(CELLS):
        write_image(root / prefix / name, seed=i)


def write_table(
    file: Path, header: list[str], rows: list[tuple], delimiter: str = ",", encoding: str = "utf-8"
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        columns = [pa.array(column) for column in zip(*rows, strict=True)]
        pq.write_table(pa.table(columns, names=header), file)
    elif file.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in (header, *rows):
            book.active.append(row)
        book.save(file)
    else:
        lines = [
            delimiter.join("" if c is None else str(c) for c in row) for row in ([header] if header else []) + rows
        ]
        file.write_text("\n".join(lines) + "\n", encoding=encoding)
    return file


def evidence(root: Path, **data) -> Evidence | None:
    return detect(Listing(root), DataConfig(source=FolderSource(kind="folder", path=root), **data))


def read_by_settings(root: Path) -> Dataset:
    """Read with the settings that the evidence proposes."""
    return read_as(root, "table", **evidence(root).settings)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("attributes.csv", {}),
        ("Labels.CSV", {}),
        ("x.csv", {"delimiter": ";"}),
        ("x.csv", {"delimiter": "\t"}),
        ("x.tsv", {"delimiter": "\t"}),
        ("x.csv", {"encoding": "utf-16"}),
        ("x.csv", {"encoding": "utf-8-sig"}),
        ("annotations/x.csv", {}),
        ("x.parquet", {}),
        ("x.xlsx", {}),
    ],
)
def test_tables_of_all_kinds_read_the_same(tmp_path, name, options):
    write_images(tmp_path)
    write_table(tmp_path / name, HEADER, CELLS, **options)
    found = evidence(tmp_path)
    assert (found.strength, found.layer) == (Strength.LIKELY, "labels")
    assert found.settings["table"] == name
    assert answers(read_as(tmp_path, "auto")) == answers(read_by_settings(tmp_path)) == expected()


def test_blanks_between_columns_and_no_header(tmp_path):
    write_images(tmp_path, "images/")
    rows = [(f"images/{name}", f"{i % 3 / 2}   ", state) for i, (name, state, _) in enumerate(CELLS)]
    write_table(tmp_path / "labels.csv", [], rows, "  ")
    columns = ["image", "label_1", "label_2"]
    assert evidence(tmp_path).settings == {"table": "labels.csv", "delimiter": "whitespace", "columns": columns}
    dataset = read_as(tmp_path, "auto")
    assert [a.class_names for a in dataset.attributes] == [("0", "0.5", "1"), ("bent", "ok")]
    assert answers(dataset) == answers(read_by_settings(tmp_path))
    assert not dataset.findings


def test_one_column_of_labels_is_a_classification(tmp_path):
    write_images(tmp_path)
    write_table(tmp_path / "labels.csv", ["state", "file"], [(state, name) for name, state, _ in CELLS])
    found = evidence(tmp_path)
    assert found.layer == "labels"
    assert found.settings == {"table": "labels.csv", "image_column": "file"}
    assert answers(read_as(tmp_path, "auto")) == {name: (state,) for name, state, _ in CELLS}


@pytest.mark.parametrize(
    ("written", "lies"),
    [
        ("images\\{}.png", "images/{}.png"),
        ("{}.PNG", "{}.png"),
        ("IMG {}.png", "img {}.png"),
        ("a%20{}.png", "a {}.png"),
        ("\u00e9{}.png", "e\u0301{}.png"),
        ("data/{}.png", "{}.png"),
        ("/images/{}.png".lstrip("/"), "{}.png"),
        ("{}.png", "images/{}.png"),
        ("{}.png", "some/deep/{}.png"),
        ("{}", "{}.png"),
        ("{}", "images/{}.jpg"),
        ("img-{}", "pictures/IMG-{}.png"),
    ],
)
def test_names_match_as_in_all_readers(tmp_path, written, lies):
    ids = [f"{i:03d}" for i in range(8)]
    for i, one in enumerate(ids):
        write_image(tmp_path / lies.format(one), seed=i)
    rows = [(written.format(one), "ab"[i % 2]) for i, one in enumerate(ids)]
    write_table(tmp_path / "labels.csv", ["id", "kind"], rows)
    for dataset in (read_as(tmp_path, "auto"), read_as(tmp_path, "table")):
        assert answers(dataset) == {lies.format(one): ("ab"[i % 2],) for i, one in enumerate(ids)}
        assert not dataset.findings
        exact = (written, lies) == ("{}.png", "images/{}.png")  # a common image folder
        assert any("found by" in note for note in dataset.notes) is not exact


def test_an_identifier_that_several_images_share_is_ambiguous(tmp_path):
    for i in range(6):
        write_image(tmp_path / f"{i}.png", seed=i)
    write_image(tmp_path / "0.jpg", seed=9)
    write_table(tmp_path / "labels.csv", ["id", "kind"], [(i, "ab"[i % 2]) for i in range(6)])
    dataset = read_as(tmp_path, "auto")
    assert [(f.code, f.where) for f in dataset.findings] == [(Code.AMBIGUOUS_NAME, "labels.csv:2")]
    assert set(dataset.column("key")) == {f"{i}.png" for i in range(1, 6)}


def test_columns_that_are_no_labels_are_left_out_and_named(tmp_path):
    for i in range(40):
        write_image(tmp_path / f"{i}.png", seed=i)
    rows = [
        (
            f"{i}.png",
            f"part-{i}",
            "ab"[i % 2],
            i * 0.37,
            "line 1",
            f"{'word ' * 20}{i % 2}",
            "train" if i % 2 else "test",
        )
        for i in range(40)
    ]
    write_table(tmp_path / "t.csv", ["file", "part", "kind", "gap", "line", "remark", "usage"], rows)
    dataset = read_as(tmp_path, "auto")
    assert [a.name for a in dataset.attributes] == ["kind"]
    assert (
        "Columns of t.csv that are not labels, left out: part (40 values in 40 rows), gap (40 values in 40 rows), "
        "line (one value), remark (free text)."
    ) in dataset.notes
    assert dataset.split_counts() == {"train": 20, "test": 20}
    assert "Column usage of t.csv gives the splits." in dataset.notes
    found = evidence(tmp_path)
    assert found.settings == {
        "table": "t.csv",
        "split_column": "usage",
        "labels": {"kind": {"classes": {"a": ["a"], "b": ["b"]}}},
    }
    again = read_by_settings(tmp_path)
    assert (answers(again), again.column("split")) == (answers(dataset), dataset.column("split"))


def test_a_word_that_is_no_split_is_one_finding(tmp_path):
    write_images(tmp_path)
    rows = [(name, state, "trian" if i < 2 else ("train", "")[i % 2]) for i, (name, state, _) in enumerate(CELLS)]
    write_table(tmp_path / "t.csv", ["file", "state", "use"], rows)
    dataset = read_as(tmp_path, "table", split_column="use")
    assert [(f.code, f.where, len(f.images)) for f in dataset.findings] == [(Code.UNKNOWN_LABEL, "t.csv:2", 2)]
    assert "did you mean 'train'?" in dataset.findings[0].message
    assert dataset.split_counts() == {"": 7, "train": 5}


def test_several_tables_are_an_error_that_lists_them(tmp_path):
    write_images(tmp_path)
    for name in ("a.csv", "b.tsv"):
        write_table(tmp_path / name, HEADER, CELLS, "\t" if name == "b.tsv" else ",")
    for format_ in ("auto", "table"):
        with pytest.raises(AnnotationError, match=r"2 tables name its images: a\.csv, b\.tsv; set data\.table to one"):
            read_as(tmp_path, format_)
        assert answers(read_as(tmp_path, format_, table="b.tsv")) == expected()


@pytest.mark.parametrize(
    "header",
    [
        ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"],
        ["ImageID", "Label", "XMin", "XMax", "YMin", "YMax"],
        ["image", "x1", "y1", "x2", "y2", "label"],
        ["image_id", "x", "y", "width", "height", "class"],
        ["image", "bbox_x", "bbox_y", "bbox_width", "bbox_height"],
        ["image_id", "bbox", "source"],
        ["filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes"],
        [],
    ],
)
def test_a_table_of_boxes_is_no_table_of_attributes(tmp_path, header):
    write_images(tmp_path)
    row = [1, 2, 10, 12, "pit", 3, 4][: max(len(header) - 1, 5)]
    rows = [(name, *row[: len(header) - 1 if header else 5]) for name, *_ in CELLS]
    write_table(tmp_path / "boxes.csv", header, rows)
    assert evidence(tmp_path) is None


@pytest.mark.parametrize(
    "rows", [["sizes", "1", "2"], ["image,caption", "000.png,a b", "001.png,c d"], ["a", ""], [], ["\0\0", "x,y"]]
)
def test_a_file_that_names_no_image_or_says_nothing_is_no_table(tmp_path, rows):
    write_images(tmp_path)
    if rows and "caption" in rows[0]:
        rows = ["image,caption", *(f"{name},the {i}th of many" for i, (name, *_) in enumerate(CELLS))]
    (tmp_path / "notes.csv").write_text("\n".join(rows))
    assert evidence(tmp_path) is None


def test_masks_beside_the_images_are_not_for_inference(tmp_path):
    import numpy as np
    from PIL import Image

    write_images(tmp_path)
    for name, *_ in CELLS[:4]:
        Image.fromarray(np.eye(16, 20, dtype=np.uint8) * 255).save(tmp_path / name.replace(".png", ".bmp"))
    write_table(tmp_path / "t.csv", HEADER, [(name.removesuffix(".png"), *cells) for name, *cells in CELLS])
    dataset = read_as(tmp_path, "auto")
    assert answers(dataset) == expected()
    assert [f.code for f in dataset.findings] == [Code.MASK_IMAGE]


def test_old_excel_is_refused_by_name(tmp_path):
    write_images(tmp_path)
    (tmp_path / "labels.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    for data in ({}, {"table": "labels.xls"}):
        with pytest.raises(AnnotationError, match=r"labels\.xls: Excel's old format is not read; save the table as"):
            read_as(tmp_path, "table", **data)


def test_missing_images_are_one_finding_each_with_their_line(tmp_path):
    write_images(tmp_path)
    (tmp_path / "003.png").unlink()
    write_table(tmp_path / "t.csv", HEADER, CELLS)
    dataset = read_as(tmp_path, "auto")
    assert [(f.code, f.where, f.images) for f in dataset.findings] == [(Code.MISSING_IMAGE, "t.csv:5", ("003.png",))]
    assert dataset.num_images == 12


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (True, "true"),
        (None, ""),
        (float("nan"), ""),
        (float("inf"), "inf"),
        (" a ", "a"),
        (7, "7"),
        (datetime.date(2026, 2, 3), "2026-02-03"),
        (datetime.datetime(2026, 2, 3), "2026-02-03"),  # noqa: DTZ001 - as Excel has it
        (datetime.datetime(2026, 2, 3, 4, 5), "2026-02-03T04:05:00"),  # noqa: DTZ001
        (["a", 1], '["a", 1]'),
    ],
)
def test_typed_cells_are_text_by_one_rule(value, text):
    assert cell_text(value) == text


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.booleans(),
            st.none() | st.just(float("nan")) | st.integers(-(10**9), 10**9).map(lambda n: n / 1000),
            st.none() | st.integers(-(2**50), 2**50),
            st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=6),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_parquet_and_excel_agree(tmp_path, rows):
    schema = pa.schema(
        [("f", pa.string()), ("a", pa.bool_()), ("b", pa.float64()), ("c", pa.int64()), ("d", pa.string())]
    )
    named = [(f"{i}.png", *row) for i, row in enumerate(rows)]
    columns = dict(zip(schema.names, map(list, zip(*named, strict=True)), strict=True))
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "t.parquet")
    safe = [tuple(None if isinstance(c, float) and math.isnan(c) else c for c in row) for row in named]
    book = openpyxl.Workbook()
    for i, row in enumerate([tuple(schema.names), *safe], start=1):
        for j, value in enumerate(row, start=1):
            book.active.cell(i, j).value = value
            if isinstance(value, str):
                book.active.cell(i, j).data_type = "s"  # "=x" is not a formula
    book.save(tmp_path / "t.xlsx")
    parquet, excel = (list(read_rows(tmp_path / f"t.{kind}", ",")) for kind in ("parquet", "xlsx"))
    assert parquet == excel


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.xlsx"])
def test_a_damaged_table_is_one_line_or_a_data_set(tmp_path, name):
    write_images(tmp_path)
    file = write_table(tmp_path / name, HEADER, CELLS)
    whole, chance = file.read_bytes(), random.Random(5)
    for _ in range(50):
        file.write_bytes(damaged(whole, chance))
        began = time.monotonic()
        evidence(tmp_path)
        message = ""
        try:
            read_as(tmp_path, "table", table=name)
        except DataError as error:
            message = str(error)
        assert "\n" not in message
        assert time.monotonic() - began < 5


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Return bytes with some changed, cut or inserted; for a zip archive, every other time inside one of its parts."""
    if whole[:2] == b"PK" and chance.random() < 0.7:
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w") as new:
            hit = chance.choice(old.namelist())
            for part in old.namelist():
                new.writestr(part, damaged(old.read(part), chance) if part == hit else old.read(part))
        return stream.getvalue()
    data = bytearray(whole)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(3):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case _:
                data[at:at] = chance.choice([b"\0\xff", b"<x>", b"&a;", b'"', b"nan", b"\n", b"9" * 30])
    return bytes(data)


def test_an_excel_file_that_unpacks_without_end_is_refused(tmp_path):
    write_images(tmp_path)
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as part:
        for _ in range(520):
            part.write(bytes(1 << 20))
    with pytest.raises(AnnotationError, match="unpacks to more than 512 MiB"):
        read_as(tmp_path, "table", table="t.xlsx")


# Expected results of the cases and of the real data


@pytest.mark.real_data
def test_nan_is_no_class_of_the_case(real_data):
    dataset = read_as(real_data.parent / "cases/table_nan_values/data", "auto")
    assert [a.class_names for a in dataset.attributes] == [("0", "1"), ("NA", "None", "grey", "red")]
    assert dataset.label_array()[:, 0].tolist().count(-1) == 6
    first, second = dataset.notes
    assert first == "6 missing values in column rust: 6 x nan."
    assert second.startswith("Values 'NA', 'None' of column colour look like missing ones; add them to data.labels")


@pytest.mark.real_data
def test_faces_are_a_table_and_s3_is_for_inference(real_data):
    root = real_data / "faces"
    listing = Listing(root)
    found = recognize(listing, DataConfig(source=FolderSource(kind="folder", path=root)))
    assert (found.format.value, found.evidence.layer) == ("table", "labels")
    dataset = read_as(root, "auto")
    assert dataset.split_counts() == {"": 960, "unlabelled": 240}
    assert {key[:2] for key, s in zip(dataset.column("key"), dataset.column("split"), strict=True) if s} == {"s3"}


def test_the_package_of_solar_cells_trains_as_it_lies():
    elpv = pytest.importorskip("elpv_dataset")
    root = Path(elpv.__file__).parent / "data"
    dataset = read_by_settings(root)
    assert dataset.num_images == 2624
    assert [a.class_names for a in dataset.attributes] == [
        ("0", "0.3333333333333333", "0.6666666666666666", "1"),
        ("mono", "poly"),
    ]
    assert not dataset.findings
