from __future__ import annotations

import csv
import io

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import write_image, write_lots
from visionops.data.dataset import Dataset
from visionops.data.files import safe_name
from visionops.data.findings import Code, Severity
from visionops.data.formats import read_dataset
from visionops.data.label_rules import raw_key
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError, DataError
from visionops.tasks.spec import task_for

ROWS = """\
filename,glasses,hair,age
s1/0.png,0,3,20
s1/1.png,1,0,30
s2/0.png,1,,40
"""
LABELS = {
    "glasses": {"classes": {"none": [0], "glasses": [1]}},
    "hair_color": {"column": "hair", "classes": {"blond": [0], "dark": [3]}},
}


def read(root, task: str | None = None, **data) -> Dataset:
    settings = {"source": {"kind": "folder", "path": root}, "format": "table", **data}
    fit = None if task is None else task_for(task).fit_dataset
    return read_dataset(root, DataConfig.model_validate(settings), "made-up", fit)


def answers(dataset: Dataset) -> dict[str, tuple[str | None, ...]]:
    rows = zip(dataset.column("key"), dataset.label_array().tolist(), strict=True)
    return {
        key: tuple((*a.class_names, None)[i] for a, i in zip(dataset.attributes, ids, strict=True)) for key, ids in rows
    }


def found(dataset: Dataset) -> list[tuple[Code, Severity, str]]:
    return [(finding.code, finding.severity, finding.where) for finding in dataset.findings]


def test_rows_answer_by_their_rules_and_lots_are_merged(tmp_path):
    dataset = read(write_lots(tmp_path, ROWS, {"s1": 2, "s2": 1, "s3": 2}), labels=LABELS)
    assert dataset.attributes == (
        Attribute("glasses", ("none", "glasses"), "glasses"),
        Attribute("hair_color", ("blond", "dark"), "dark"),
    )
    assert answers(dataset) == {
        "s1/0.png": ("none", "dark"),
        "s1/1.png": ("glasses", "blond"),
        "s2/0.png": ("glasses", None),
        "s3/0.png": (None, None),
        "s3/1.png": (None, None),
    }
    assert dataset.column("split") == ["", "", "", "unlabelled", "unlabelled"]
    assert dataset.notes == (
        "Columns of attributes.csv that are not used: age.",
        "2 images of s3 without a row in attributes.csv: for batch inference.",
    )
    assert not dataset.findings
    assert dataset.paths()[3] == tmp_path / "s3/0.png"


def test_only_the_configured_lots(tmp_path):
    dataset = read(write_lots(tmp_path, ROWS, {"s1": 3, "s2": 1, "s3": 2}), labels=LABELS, lots=["s1"])
    assert dataset.column("key") == ["s1/0.png", "s1/1.png", "s1/2.png"]
    assert "1 row of attributes.csv left out: data.lots does not take the lot." in dataset.notes
    with pytest.raises(DataError, match=r"data.lots: .* has no folder 's1x'; did you mean 's1'\?"):
        read(tmp_path, labels=LABELS, lots=["s1x"])


def test_without_rules_every_column_is_an_attribute(tmp_path):
    dataset = read(write_lots(tmp_path, ROWS.replace(",age", ",").replace("0\n", "\n"), {"s1": 2, "s2": 1}))
    assert dataset.attributes == (Attribute("glasses", ("0", "1"), "1"), Attribute("hair", ("0", "3")))


def test_a_column_of_identifiers_is_no_attribute(tmp_path):
    rows = "filename,label,part\n" + "".join(f"s1/{i}.png,{i % 2},p{i}\n" for i in range(30))
    with pytest.raises(AnnotationError, match="column 'part' has 30 values for 30 images, which are not classes"):
        read(write_lots(tmp_path, rows, {"s1": 30}))


def test_groups_and_weights(tmp_path):
    write_lots(tmp_path, "file,p,part\ns1/0.png,0.1,a\ns1/1.png,0.35,a\ns1/2.png,1,b\n", {"s1": 3})
    rule = {"column": "p", "ranges": {"good": [0, 0.5], "bad": [0.6, 1]}}
    weights = {"column": "p", "values": {0: 1, 0.3333: 0.5, 1: 1}}
    dataset = read(tmp_path, labels={"state": rule}, weights=weights, group_column="part")
    assert dataset.column("weight") == [1, 0.5, 1]
    assert dataset.column("group") == ["a", "a", "b"]
    assert not dataset.notes
    (tmp_path / "attributes.csv").write_text("file,p,part\ns1/0.png,often,a\n")
    with pytest.raises(AnnotationError, match=r"attributes.csv:2: column p: 'often' is not a number"):
        read(tmp_path, labels={"state": {"column": "part", "classes": {"a": ["a"], "b": ["b"]}}}, weights=weights)


def test_blanks_between_columns_and_no_header(tmp_path):
    write_lots(tmp_path, "s1/0.png  1.0\t mono\n\ns1/1.png  0.333  poly\ns1/2.png 0.0 mono \n", {"s1": 3})
    rule = {"column": "p", "ranges": {"good": [0, 0.1], "bad": [0.9, 1]}, "drop": [0.333]}
    settings = {"delimiter": "whitespace", "columns": ["path", "p", "type"], "notes": ["No module ids."]}
    dataset = read(tmp_path, labels={"state": rule}, **settings)
    assert answers(dataset) == {"s1/0.png": ("bad",), "s1/2.png": ("good",)}
    assert dataset.notes == (
        "Columns of attributes.csv that are not used: type.",
        "1 image left out, as data.labels.state.drop says (1 x 0.333).",
        "No module ids.",
    )


def test_images_whose_labels_are_all_unknown_are_for_inference(tmp_path):
    dataset = read(write_lots(tmp_path, "file,a\ns1/0.png,0\ns1/1.png,\ns1/2.png,1\n", {"s1": 3}))
    assert dataset.column("split") == ["", "unlabelled", ""]
    assert dataset.notes == ("1 image without any known label: for batch inference.",)


def test_paths_are_relative_to_the_table(tmp_path):
    write_lots(tmp_path / "deep", "file,a\ns1/0.png,0\n./s1//1.png,1\n", {"s1": 2})
    dataset = read(tmp_path, table="deep/attributes.csv", lots=["s1"])
    assert answers(dataset) == {"deep/s1/0.png": ("0",), "deep/s1/1.png": ("1",)}


# Bad input


def test_a_value_outside_the_mapping_has_its_line_and_column(tmp_path):
    rows = ROWS.replace("s1/0.png,0,3", "s1/0.png,0,7").replace("s1/1.png,1,0", "s1/1.png,1,7")
    dataset = read(write_lots(tmp_path, rows, {"s1": 2, "s2": 1}), labels=LABELS)
    assert found(dataset) == [(Code.UNKNOWN_LABEL, Severity.ERROR, "attributes.csv:2")]
    assert dataset.findings[0].message == (
        "column hair: '7' is not a value of hair_color; known: 0, 3; or add it to a class, unknown or drop of "
        "data.labels.hair_color (2 rows have it)"
    )
    assert dataset.findings[0].images == ("s1/0.png", "s1/1.png")
    assert answers(dataset)["s1/0.png"] == ("none", None)


def test_missing_files_have_no_path(tmp_path):
    dataset = read(write_lots(tmp_path, ROWS, {"s1": 1}), labels=LABELS)
    assert dataset.column("path") == [str(tmp_path / "s1/0.png"), "", ""]


def test_when_every_file_is_missing_the_first_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"attributes.csv:2: no image of the table exists, such as .*s1/0.png"):
        read(write_lots(tmp_path, ROWS, {"other": 1}), labels=LABELS)


def test_repeated_rows(tmp_path):
    rows = ROWS + "s1/0.png,0,3,99\ns1/1.png,1,3,30\n"
    dataset = read(write_lots(tmp_path, rows, {"s1": 2, "s2": 1}), labels=LABELS)
    assert found(dataset) == [
        (Code.DUPLICATE_ROW, Severity.WARNING, "attributes.csv:5"),
        (Code.CONTRADICTING_ROW, Severity.ERROR, "attributes.csv:6"),
    ]
    assert "is already in line 2, with the same labels" in dataset.findings[0].message
    assert "contradicts line 3 of the same image: hair '0' and '3'" in dataset.findings[1].message
    assert dataset.column("key") == ["s1/0.png", "s2/0.png"]


@pytest.mark.parametrize("name", ["../s1/0.png", "/etc/passwd", "C:/x.png", "..\\s1\\0.png", "", "s1/\x1b.png"])
def test_names_that_lead_elsewhere(tmp_path, name):
    dataset = read(write_lots(tmp_path, f"{ROWS}{name},0,3,1\n", {"s1": 2, "s2": 1}), labels=LABELS)
    assert found(dataset) == [(Code.UNSAFE_NAME, Severity.ERROR, "attributes.csv:5")]
    assert dataset.num_images == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings(tmp_path, encoding, end):
    write_image(tmp_path / "s1/é.png")
    write_image(tmp_path / "s1/b.png")
    text = "datei,größe\ns1/b.png,klein\ns1/é.png,groß\n".replace("\n", end)
    bom = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    (tmp_path / "attributes.csv").write_bytes(bom + text.encode(encoding))
    if encoding == "cp1252":
        with pytest.raises(AnnotationError, match=r"attributes.csv:1: byte 0xf6 is not UTF-8; save the table as UTF-8"):
            read(tmp_path)
    else:
        assert answers(read(tmp_path)) == {"s1/b.png": ("klein",), "s1/é.png": ("groß",)}


def test_the_line_of_a_byte_that_is_not_utf_8(tmp_path):
    write_lots(tmp_path, "", {"s1": 1})
    (tmp_path / "attributes.csv").write_bytes(b"file,a\ns1/0.png,0\ns1/\xe9.png,1\n")
    with pytest.raises(AnnotationError, match=r"attributes.csv:3: byte 0xe9 is not UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("rows", "settings", "words"),
    [
        ("", {}, "attributes.csv:1: the table is empty"),
        ("file,a\n", {}, "has no row with an image"),
        ("file,a,a\ns1/0.png,0,1\n", {}, ":1: column 'a' is duplicated"),
        ("file;a\ns1/0.png;0\n", {}, "has one column, 'file;a'; set data.delimiter"),
        ("file\ns1/0.png\n", {}, "has one column, 'file'"),
        ("s1/0.png,0\ns1/1.png,1\n", {}, ":1: the first line names an image, no columns; name them with data.columns"),
        ("file,a\ns1/0.png\n", {}, ":2: has 1 values for 2 columns; correct the row"),
        ("file,a\n\ns1/0.png,0,7\n", {}, ":3: has 3 values for 2 columns; correct the row"),
        ('file,a\n"s1/0.png,0\n', {}, ":2: not a row of a CSV"),
        ('file,a\ns1/0.png,0\n"s1/1.png"x,0\n', {}, ":3: not a row of a CSV"),
        ("file,a\ns1/0.png,\0\n", {}, ":2: holds zero bytes"),
        ("file,a\ns1/0.png,0\n", {"image_column": "fil"}, "has no column 'fil'; did you mean 'file'?"),
        ("file,a\ns1/0.png,0\n", {"group_column": "part"}, "data.group_column: "),
        ("file,a\ns1/0.png,0\n", {"weights": {"column": "b", "values": {0: 1}}}, "data.weights.column: "),
        ("file,a\ns1/0.png,0\n", {"labels": {"b": LABELS["glasses"]}}, "data.labels.b: "),
        ("file,a\ns1/0.png,0\n", {"group_column": "a"}, "has no column of labels"),
        (",file,a\n0,s1/0.png,0\n", {}, "the first column has no name; set data.image_column"),
        ("file,a\ns1/0.png,0\n", {"table": "attribute.csv"}, "not found; set data.table; there are: attributes.csv"),
        ("file,a\ns1/0.png,0\n", {"table": "../x.csv"}, "is outside the data set"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, rows, settings, words):
    with pytest.raises(DataError) as caught:
        read(write_lots(tmp_path, rows, {"s1": 2}), **settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_field_without_an_end_does_not_take_the_memory(tmp_path):
    rows = 'file,a\ns1/0.png,"' + "x" * 200_000
    with pytest.raises(AnnotationError, match=r"attributes.csv:2: not a row of a CSV"):
        read(write_lots(tmp_path, rows, {"s1": 1}))


def test_classification_has_one_attribute(tmp_path):
    write_lots(tmp_path, ROWS, {"s1": 2, "s2": 1})
    with pytest.raises(
        DataError, match="classification takes one, but the table has glasses, hair, age; name one, or set task"
    ):
        read(tmp_path, "classification")
    assert read(tmp_path, "classification", labels={"glasses": LABELS["glasses"]}).attributes[0].name == "glasses"
    assert len(read(tmp_path, "attributes").attributes) == 3


names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\\/."), min_size=1)
values = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8) | st.just('a,"b"\nc')


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    rows=st.dictionaries(names, st.tuples(values, values), min_size=1, max_size=8),
    header=st.lists(names, min_size=3, max_size=3, unique=True),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_output_of_a_csv_writer_is_read(tmp_path, rows, header, delimiter, quoting, encoding):
    assume(all(len(name.encode()) < 200 and safe_name(name) for name in rows))
    first = next(iter(rows))
    (tmp_path / first).write_bytes(b"x")
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)
    writer.writerow(header)
    writer.writerows([name, *cells] for name, cells in rows.items())
    (tmp_path / "t.csv").write_bytes(stream.getvalue().encode(encoding))
    labels = {
        name: {
            "column": name,
            "classes": {str(i): [v] for i, v in enumerate(dict.fromkeys(raw_key(c[k]) for c in rows.values()))}
            | {"x": ["\1"], "y": ["\2"]},
        }
        for k, name in enumerate(header[1:])
    }
    dataset = read(tmp_path, table="t.csv", delimiter=delimiter, labels=labels)
    (tmp_path / first).unlink()
    for k, attribute in enumerate(dataset.attributes):
        own = labels[attribute.name]["classes"]
        got = [own[attribute.class_names[i]][0] for i in dataset.label_array()[:, k]]
        assert got == [raw_key(cells[k]) for cells in rows.values()]
    assert dataset.column("key") == list(rows)
