"""Tables with one row per box."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from tests.data.formats.test_label_studio import boxes, codes, keys, projects
from tests.helpers.datasets import read_as, write_image
from tests.helpers.exports import Made, export_csv
from tests.helpers.mutations import fuzz_file
from visionops.data.findings import Code
from visionops.data.formats.rules import is_missing
from visionops.errors import AnnotationError

SIZE = (200, 100)


def read(
    root: Path, tables: dict[str, str], images: tuple[str, ...] = ("a.png", "b.png"), format_: str = "auto"
) -> Any:
    for i, name in enumerate(images):
        write_image(root / name, SIZE, seed=i)
    for name, content in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return read_as(root, format_)


@pytest.mark.parametrize("format_", ["auto", "csv"])
@settings(max_examples=25, deadline=None)
@given(images=projects())
def test_round_trip(format_: str, images: list[Made]) -> None:
    images = [image._replace(split=("train", "val", "test")[i % 3]) for i, image in enumerate(images)]
    with tempfile.TemporaryDirectory() as folder:
        export_csv(Path(folder), images, [])
        inside = [max(box) <= 1.05 for image in images for _, box in image.boxes]
        if inside and all(inside):
            return  # boxes within the first pixel only, which count as fractions
        dataset = read_as(Path(folder), format_)
        rows = dataset.images.select(["key", "split"]).to_pylist()
        assert rows == [{"key": image.name, "split": image.split} for image in images]
        named = [own for image in images for own in image.boxes if not is_missing(own[0])]
        found = dataset.boxes.to_pylist()
        assert len(found) + codes(dataset).count(Code.UNKNOWN_CATEGORY) == sum(len(i.boxes) for i in images)
        for box, (class_name, xyxy) in zip(found, named, strict=True):
            read_name = dataset.class_names[box["class_id"]]
            assert read_name.casefold() == class_name.casefold() or class_name in " ".join(dataset.notes)
            assert [box[c] for c in ("x1", "y1", "x2", "y2")] == pytest.approx(xyxy, abs=1e-4)


WANTED = [(20, 10, 60, 50), (0, 0, 10, 10)]
"""Boxes of a.png: pit, Dent. b.png has no box."""

TABLES = {
    "tensorflow": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    "a.png,200,100,pit,20,10,60,50\na.png,200,100,Dent,0,0,10,10\nb.png,200,100,,,,,\n",
    "semicolons": "Class;XMAX;Y Max;xMin;y_min;Filename\npit;60;50,0;20;10;a.png\nDent;10;10;0;0;a.png\n;;;;;b.png\n",
    "tabs": "image\tx\ty\tw\th\tlabel\na.png\t20\t10\t40\t40\tpit\na.png\t0\t0\t10\t10\tDent\nb.png\t\t\t\t\t\n",
    "retinanet": "a.png,20,10,60,50,pit\na.png,0,0,10,10,Dent\nb.png,,,,,\n",
    "automl": "TRAIN,gs://bucket/x/a.png,pit,0.1,0.1,,,0.3,0.5,,\n"
    "TRAIN,gs://bucket/x/a.png,Dent,0,0,,,0.05,0.1,,\nTEST,gs://bucket/x/b.png\n",
    "open images": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"
    "a,xclick,pit,1,0.1,0.3,0.1,0.5,0,0\na,xclick,Dent,1,0,0.05,0,0.1,0,0\nb,,,,,,,,,\n",
    "wheat": 'image_id,width,height,bbox,class\na,200,100,"[20.0, 10.0, 40.0, 40.0]",pit\n'
    'a,200,100,"[0, 0, 10, 10]",Dent\nb,200,100,[],\n',
    "gtsrb": "Path;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassName\n"
    "a.png;200;100;20;10;60;50;pit\na.png;200;100;0;0;10;10;Dent\nb.png;200;100;;;;;\n",
    "bbox prefix": "width,height,file_name,bbox_x,bbox_y,bbox_width,bbox_height,category_name\n"
    "200,100,a.png,20,10,40,40,pit\n200,100,a.png,0,0,10,10,Dent\n200,100,b.png,,,,,\n",
    "centre": "image,cx,cy,w,h,label\na.png,40,30,40,40,pit\na.png,5,5,10,10,Dent\nb.png,nan,nan,nan,nan,\n",
    "makesense header": "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
    "pit,20,10,40,40,a.png,200,100\nDent,0,0,10,10,a.png,200,100\n,,,,,b.png,200,100\n",
    "makesense": "pit,20,10,40,40,a.png,200,100\nDent,0,0,10,10,a.png,200,100\n,,,,,b.png,200,100\n",
    "centre in fractions": "image,label,x_center,y_center,width,height\n"
    "a.png,pit,0.2,0.3,0.2,0.4\na.png,Dent,0.025,0.05,0.05,0.1\nb.png,,,,,\n",
    "short names of the centre": "image,label,xc,yc,w,h\n"
    "a.png,pit,0.2,0.3,0.2,0.4\na.png,Dent,0.025,0.05,0.05,0.1\nb.png,,,,,\n",
    "centre in pixels": "filename,class,x_center,y_center,width,height\n"
    "a.png,pit,40,30,40,40\na.png,Dent,5,5,10,10\nb.png,,,,,\n",
    "centre and the size of the image": "filename,width,height,class,x_center,y_center,box_width,box_height\n"
    "a.png,200,100,pit,40,30,40,40\na.png,200,100,Dent,5,5,10,10\nb.png,200,100,,,,,\n",
    "short names of the size": "filename,width,height,class,x_center,y_center,w,h\n"
    "a.png,200,100,pit,40,30,40,40\na.png,200,100,Dent,5,5,10,10\nb.png,200,100,,,,,\n",
    "two sizes": "image,x,y,w,h,width,height,label\n"
    "a.png,20,10,40,40,200,100,pit\na.png,0,0,10,10,200,100,Dent\nb.png,,,,,200,100,\n",
    "open images with names": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    "a,xclick,/m/01,1,0.1,0.3,0.1,0.5,0\na,xclick,/m/02,1,0,0.05,0,0.1,0\nb,,,,,,,,\n",
    "sku-110k": "a.png,20,10,60,50,pit,200,100\na.png,0,0,10,10,Dent,200,100\nb.png,,,,,,200,100\n",
    "blanks": "filename xmin ymin xmax ymax class\na.png 20 10 60 50 pit\na.png 0 0 10 10 Dent\nb.png ? ? ? ? ?\n",
    "corners by name": "image,x_top_left,y_top_left,x_bottom_right,y_bottom_right,label\n"
    "a.png,20,10,60,50,pit\na.png,0,0,10,10,Dent\nb.png,,,,,\n",
    "start and end": "image,xstart,ystart,xend,yend,label\na.png,20,10,60,50,pit\na.png,0,0,10,10,Dent\nb.png,,,,,\n",
    "a corner and the size": "image,x1,y1,w,h,label\na.png,20,10,40,40,pit\na.png,0,0,10,10,Dent\nb.png,,,,,\n",
    "urls": "image_url,x_center,y_center,width,height,label\nhttps://x/y/a.png?v=1,40,30,40,40,pit\n"
    "https://x/y/a.png?v=1,5,5,10,10,Dent\nhttps://x/y/b.png?v=1,,,,,\n",
    "points": "filename,label,x1,y1,x2,y2,x3,y3,x4,y4\n"
    "a.png,pit,60,50,20,10,60,10,20,50\na.png,Dent,0,0,10,0,10,10,0,10\nb.png,,,,,,,,,\n",
    "folders and case": "filename,left,top,right,bottom,label\n"
    "pics\\A.PNG,20,10,60,50,pit\npics\\A.PNG,0,0,10,10,Dent\nimages/b.png,,,,,\n",
}


@pytest.mark.parametrize("format_", ["auto", "csv"])
@pytest.mark.parametrize("kind", TABLES)
def test_every_layout_reads_the_same(tmp_path: Path, kind: str, format_: str) -> None:
    tables = {"labels.tsv" if kind == "tabs" else "labels.csv": TABLES[kind]}
    if "/m/01" in TABLES[kind]:
        tables["class-descriptions-boxable.csv"] = "/m/01,pit\n/m/02,Dent\n/m/03,Scratch\n"
    dataset = read(tmp_path, tables, format_=format_)
    assert keys(dataset) == ["a.png", "b.png"]
    assert dataset.class_names == ("Dent", "pit")
    assert boxes(dataset) == [pytest.approx(box, abs=1e-9) for box in WANTED]
    assert dataset.boxes.column("class_id").to_pylist() == [1, 0]
    assert not dataset.findings


def write_excel(path: Path, sheets: dict[str, list[list[Any]]]) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)


ROWS: dict[str, list[list[Any]]] = {
    "corners": [
        ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"],
        ["a.png", 200, 100, "pit", 20, 10, 60, 50],
        ["a.png", 200, 100, "Dent", 0, 0, 10, 10],
        ["b.png", 200, 100, None, None, None, None, None],
    ],
    "fractions": [
        ["image", "x_center", "y_center", "width", "height", "label"],
        ["a.png", 0.2, 0.3, 0.2, 0.4, "pit"],
        ["a.png", 0.025, 0.05, 0.05, 0.1, "Dent"],
        ["b.png", None, None, None, None, None],
    ],
    "one column": [
        ["image_id", "bbox", "label"],
        ["a", [20.0, 10.0, 40.0, 40.0], "pit"],
        ["a", [0.0, 0.0, 10.0, 10.0], "Dent"],
        ["b", None, None],
    ],
}


@pytest.mark.parametrize("format_", ["auto", "csv"])
@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("suffix", ["xlsx", "parquet", "tsv"])
def test_every_file_type_reads_the_same(tmp_path: Path, kind: str, suffix: str, format_: str) -> None:
    header, *rows = ROWS[kind]
    if suffix == "parquet":
        columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), tmp_path / "boxes.parquet")
    elif suffix == "xlsx":
        texts = [[str(cell) if isinstance(cell, list) else cell for cell in row] for row in rows]
        write_excel(tmp_path / "boxes.xlsx", {"Boxes": [header, *texts]})
    else:
        lines = (["" if cell is None else str(cell) for cell in row] for row in ROWS[kind])
        (tmp_path / "boxes.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    dataset = read(tmp_path, {}, format_=format_)
    assert keys(dataset) == ["a.png", "b.png"]
    assert dataset.class_names == ("Dent", "pit")
    assert boxes(dataset) == [pytest.approx(box, abs=1e-9) for box in WANTED]
    assert not dataset.findings


def test_sheets_that_are_not_read_are_named(tmp_path: Path) -> None:
    write_excel(tmp_path / "boxes.xlsx", {"Empty": [], "Boxes": ROWS["corners"], "Notes": [["by me"]]})
    dataset = read(tmp_path, {})
    assert boxes(dataset) == WANTED
    assert dataset.notes == ("Sheets of boxes.xlsx that are not read: Notes.",)


def test_boxes_around_groups_are_crowds(tmp_path: Path) -> None:
    table = (
        "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\na,pit,0.1,0.3,0.1,0.5,0\na,pit,0,1,0,1,1\nb,pit,0,1,0,1,1\n"
    )
    dataset = read(tmp_path, {"t.csv": table})
    assert keys(dataset) == ["a.png"]
    assert boxes(dataset) == [(20, 10, 60, 50)]
    assert [(f.code, f.images) for f in dataset.findings] == [(Code.CROWD_ONLY, ("b.png",))]
    assert "2 boxes around groups (crowds) left out: they outline groups." in dataset.notes
    whole = read_as(tmp_path, "csv", crowds="objects")
    assert keys(whole) == ["a.png", "b.png"]
    assert boxes(whole) == [(20, 10, 60, 50), (0, 0, 200, 100), (0, 0, 200, 100)]
    assert not whole.findings


def test_fractions_may_reach_over_the_border(tmp_path: Path) -> None:
    table = "image,label,x_center,y_center,width,height\na.png,pit,0.05,0.5,0.2,1\nb.png,pit,0.5,0.5,1.01,0.5\n"
    dataset = read(tmp_path, {"t.csv": table})
    assert boxes(dataset) == [pytest.approx(box) for box in ((-10, 0, 30, 100), (-1, 25, 201, 75))]


@pytest.mark.parametrize(
    "row",
    [
        "a.png,pit,20,10,60,50",
        "pit,a.png,20,10,60,50",
        "pit,20,10,60,50,a.png",
        "a.png,120,80,40,15,pit",
        'a.png 20 10 60 50 0 "pit"',
    ],
)
def test_numbers_without_a_header_are_not_guessed(tmp_path: Path, row: str) -> None:
    with pytest.raises(AnnotationError, match=r"t\.csv:1: rows such as .*but have no header"):
        read(tmp_path, {"t.csv": f"{row}\n"})


def test_automl_gives_splits(tmp_path: Path) -> None:
    dataset = read(tmp_path, {"labels.csv": TABLES["automl"]})
    assert dataset.images.column("split").to_pylist() == ["train", "test"]


def test_a_table_without_a_class_has_one(tmp_path: Path) -> None:
    dataset = read(tmp_path, {"t.csv": 'image_id,width,height,bbox,source\na,200,100,"[20, 10, 40, 40]",usask\n'})
    assert dataset.class_names == ("object",)
    assert any("names a class: it is 'object'" in note for note in dataset.notes)


def test_roboflow_has_a_table_in_each_folder(tmp_path: Path) -> None:
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    tables = {f"{s}/_annotations.csv": f"{head}a.png,200,100,pit,20,10,60,50\n" for s in ("train", "valid", "test")}
    dataset = read(tmp_path, tables, tuple(f"{s}/a.png" for s in ("train", "valid", "test")))
    pairs = dataset.images.select(["key", "split"]).to_pylist()
    assert [(p["key"], p["split"]) for p in pairs] == [
        ("test/a.png", "test"),
        ("train/a.png", "train"),
        ("valid/a.png", "val"),
    ]
    assert not dataset.findings


def test_splits_in_the_names_of_tables(tmp_path: Path) -> None:
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    tables = {f"data/{s}_labels.csv": f"{head}a.png,200,100,pit,20,10,60,50\n" for s in ("train", "test")}
    dataset = read(tmp_path, tables, ("images/train/a.png", "images/test/a.png"))
    assert keys(dataset) == ["images/test/a.png", "images/train/a.png"]
    assert dataset.images.column("split").to_pylist() == ["test", "train"]


def test_two_tables_of_the_same_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"all\.csv and train\.csv list the same 1 image"):
        read(
            tmp_path,
            {
                name: TABLES["tensorflow"].splitlines()[0] + "\na.png,200,100,pit,20,10,60,50\n"
                for name in ("all.csv", "train.csv")
            },
        )


def test_fractions_are_recognized_and_noted(tmp_path: Path) -> None:
    dataset = read(
        tmp_path, {"t.csv": "filename,xmin,ymin,xmax,ymax,class\na.png,0.1,0.1,0.3,0.5,pit\nb.png,0,0,1,1,pit\n"}
    )
    assert boxes(dataset) == [(20, 10, 60, 50), (0, 0, 200, 100)]
    assert "t.csv: all boxes are fractions of their images, and are scaled to pixels." in dataset.notes
    (tmp_path / "t.csv").write_text("filename,xmin,ymin,xmax,ymax,class\na.png,0,0,1,1,pit\n")
    assert boxes(read_as(tmp_path, "csv")) == [(0, 0, 1, 1)]


def test_bad_rows_are_findings_with_their_lines(tmp_path: Path) -> None:
    table = (
        "filename,xmin,ymin,xmax,ymax,class\na.png,1,2,x,4,pit\n\na.png,1,2,,4,pit\na.png,1,2,3,4,\n,1,2,3,4,pit\n"
        "a.png,9,2,3,4,pit\n../a.png,1,2,3,4,pit\n/etc/a.png,1,2,3,4,pit\ngone.png,1,2,3,4,pit\n"
    )
    dataset = read(tmp_path, {"t.csv": table}, ("a.png", "b.png"), "csv")
    assert [(f.code, f.where) for f in dataset.findings] == [
        (Code.BAD_BOX, "t.csv:2"),
        (Code.BAD_BOX, "t.csv:4"),
        (Code.UNKNOWN_CATEGORY, "t.csv:5"),
        (Code.UNKNOWN_IMAGE, "t.csv:6"),
        (Code.UNSAFE_NAME, "t.csv:8"),
        (Code.UNSAFE_NAME, "t.csv:9"),
        (Code.MISSING_IMAGE, "t.csv:10"),
        (Code.BAD_BOX, "t.csv:7"),
        (Code.ORPHAN_IMAGE, "b.png"),
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "filename,xmin,ymin,xmax,ymax,class\na.png,1,2,3,4,pit\na.png,1,2\n",
            r"t\.csv:3: has 3 values, expected 6 columns",
        ),
        ("filename,xmin,ymin,xmax,ymax,x1,y1,x2,y2\na.png,1,2,3,4,1,2,3,4\n", "box are ambiguous .*x1.*columns: 'file"),
        ("filename,xmin,ymin,xmax,class\na.png,1,2,3,pit\n", "box are ambiguous .*'filename', 'xmin', 'ymin', 'xmax'"),
        ("filename,class\na.png,pit\n", "no columns of boxes"),
        ('filename,xmin,ymin,xmax,ymax,class\n"a.png,1,2,3,4,pit\n', r"t\.csv:2: not a row of a CSV"),
    ],
)
def test_unreadable_tables_are_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(tmp_path, {"t.csv": table}, format_="csv")


def test_a_stem_of_several_images_is_ambiguous(tmp_path: Path) -> None:
    dataset = read(tmp_path, {"t.csv": TABLES["wheat"]}, ("a.png", "a.webp", "b.png"))
    assert Code.AMBIGUOUS_NAME in codes(dataset)
    assert keys(dataset) == ["b.png"]


def test_other_tables_are_not_claimed(tmp_path: Path) -> None:
    from visionops.data.formats import csv_boxes
    from visionops.data.listing import Listing
    from visionops.data.settings import DataConfig, FolderSource

    write_image(tmp_path / "a.png")
    config = DataConfig(source=FolderSource(kind="folder", path=tmp_path))
    for table in (
        "filename,state,age\na.png,ok,3\n",
        "a.png,ok,3\n",
        "a.png,4,3,2,1,5\n",
        'filename,file_size,region_count,region_id,region_shape_attributes,x,y,width,height\na.png,1,1,0,"{}",1,2,3,4\n',
    ):
        (tmp_path / "t.csv").write_text(table)
        assert csv_boxes.detect(Listing(tmp_path), config) is None


@pytest.mark.parametrize("kind", ["tensorflow", "wheat", "automl"])
def test_mutations_end_in_a_data_set_or_one_line(tmp_path: Path, kind: str) -> None:
    read(tmp_path, {"t.csv": TABLES[kind]})
    fuzz_file(tmp_path, tmp_path / "t.csv", "csv", 60)
