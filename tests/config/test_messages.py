"""Messages for every mistake in a configuration; the cases come from the schema itself."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from visionops.config import Config, load_config
from visionops.errors import ConfigError
from visionops.inference.task_registry import task_names
from visionops.open_union import OpenUnion
from visionops.schema import describe_problem

_JARGON = re.compile(r"Input should|valid (dictionary|string|tuple|integer)|instance of|[Dd]ict\b|tuple|None")
"""Words of Python and pydantic that a file of YAML does not have."""
_WRONG = [[{}]]
"""No setting is a list of lists of mappings."""


class Section(NamedTuple):
    """A model, and the settings that lead to it."""

    key: tuple[str, ...]
    model: type[BaseModel]
    tags: dict[str, str]
    """Maps the dotted key of a discriminator to the value that selects the model."""
    tag: str | None = None
    """Name of the model's field that selects it."""

    @property
    def name(self) -> str:
        return ".".join((*self.key, *self.tags.values())) or "top"

    def settings(self, key: str | None = None, value: Any = None) -> dict[str, Any]:
        """Return a use case with one more setting in this section."""
        raw: dict[str, Any] = {"name": "case", "data": {"source": {"kind": "sample"}}}
        for dotted, tag in self.tags.items():
            _put(raw, tuple(dotted.split(".")), tag)
        if key is not None:
            _put(raw, (*self.key, key), value)
        return raw


def _put(raw: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        raw = raw.setdefault(part, {})
    raw[key[-1]] = value


def _sections(
    model: type[BaseModel], key: tuple[str, ...], tags: dict[str, str], tag: str | None = None
) -> Iterator[Section]:
    yield Section(key, model, tags, tag)
    for name, field in model.model_fields.items():
        alternatives = next((found.annotation for found in field.metadata if isinstance(found, OpenUnion)), None)
        yield from _inside(alternatives or field.annotation, field.discriminator, (*key, name), tags)


def _inside(annotation: Any, tag: Any, key: tuple[str, ...], tags: dict[str, str]) -> Iterator[Section]:
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        tag = next((m.discriminator for m in metadata if isinstance(m, FieldInfo) and m.discriminator), tag)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if tag is None:
            yield from _sections(annotation, key, tags)
            return
        for value in get_args(annotation.model_fields[tag].annotation):
            # The use case sets the task of a training.
            chooser = "task" if key == ("training",) else ".".join((*key, tag))
            yield from _sections(annotation, key, {**tags, chooser: str(value)}, tag)
    elif get_origin(annotation) in {Union, types.UnionType}:
        for alternative in get_args(annotation):
            yield from _inside(alternative, tag, key, tags)
    elif get_origin(annotation) is dict:
        yield from _inside(get_args(annotation)[1], None, (*key, "any"), tags)


SECTIONS = list(_sections(Config, (), {}))
FIELDS = [pytest.param(s, field, id=f"{s.name}-{field}") for s in SECTIONS for field in s.model.model_fields]


def test_the_cases_are_all_kinds_of_source_and_all_tasks():
    names = {section.name for section in SECTIONS}
    assert {f"data.source.{kind}" for kind in ("folder", "archive", "package", "sample", "s3", "dvc")} <= names
    additions = ("folder", "archive", "package", "sample", "s3", "dvc", "review")
    assert {f"data.additions.{kind}" for kind in additions} <= names
    assert {f"training.{task}" for task in task_names()} <= names
    assert {"data.labels.any", "tuning.space.any", "training.tiles.detection", "monitoring.drift"} <= names


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_a_misspelt_key_is_named_as_written_and_the_nearest_suggested(tmp_path, section, field):
    path = tmp_path / "case.yaml"
    path.write_text(yaml.safe_dump(section.settings(f"{field}x", 1)), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    dotted = ".".join((*section.key, f"{field}x"))
    place, _, message = str(caught.value).partition(": ")
    assert message.startswith(f"unknown key '{dotted}'; did you mean '{field}'?")
    assert f"{field}x" in path.read_text(encoding="utf-8").splitlines()[int(place.rpartition(":")[2]) - 1]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_a_key_unlike_any_other_is_answered_with_all_keys(section):
    texts = _texts(section.settings("@@@@", 1))
    dotted = ".".join((*section.key, "@@@@"))
    assert f"unknown key '{dotted}'; known here: {', '.join(sorted(section.model.model_fields))}" in texts


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_a_value_of_the_wrong_type_is_named_by_the_keys_of_the_file(section, field):
    raw = section.settings(field, _WRONG)
    # Without a kind, nothing below it is known.
    key = section.key if field == section.tag else (*section.key, field)
    found = [problem.key for problem in _problems(raw)]
    assert any(keys[: len(key)] == key for keys in found)
    for text in _texts(raw):
        assert not _JARGON.search(text)
    for keys in found:  # no tag of a union, and no name of a type
        node: Any = raw
        for part in keys[:-1]:
            node = node[int(part)] if isinstance(node, list) else node[part]


@pytest.mark.parametrize("value", [None, True, 2.5, "word", {"word": 1}, [1, 2], -(10**9)], ids=repr)
@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_no_message_has_the_words_of_a_programmer(section, field, value):
    try:
        Config.model_validate(section.settings(field, value))
    except ValidationError as error:
        for found in error.errors():
            assert not _JARGON.search(describe_problem(found, Config).text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("data.products=Stell", "data.products: expected a list, such as [Stell] (got 'Stell')"),
        ("data.products=[[a]]", "data.products.0: expected a text (got ['a'])"),
        ("data.notes=5", "data.notes: expected a list, such as [5] (got 5)"),
        (
            "data.annotations=5",
            "data.annotations: expected a list, such as [5] or a text; write it in quotes: '5' (got 5)",
        ),
        ("data.crowds=ignored", "data.crowds: expected ignore or objects; did you mean 'ignore'? (got 'ignored')"),
        ("data.format=yolov8", "labelme, cvat, via, label_studio, fiftyone, csv, folders, table"),
        ("data.format=yolov8", "; did you mean 'yolo'? (got 'yolov8')"),
        ("serving.prediction_log=maybe", "serving.prediction_log: expected true or false (got 'maybe')"),
        ("training.epochs=many", "training.epochs: expected a whole number, such as 3 (got 'many')"),
        ("training.epochs=2.5", "training.epochs: expected a whole number, such as 3 (got 2.5)"),
        ("training.epochs=0", "training.epochs: expected 1 or more (got 0)"),
        ("gate.minimum=high", "gate.minimum: expected a number, such as 0.5 (got 'high')"),
        ("gate.minimum=30", "gate.minimum: expected 1 or less (got 30)"),
        ("gate.confidence=1", "gate.confidence: expected less than 1 (got 1)"),
        ("gate.minimum=.nan", "gate.minimum: expected "),
        ("gate=0.5", "gate: expected a mapping with the keys metric, minimum, margin, "),
        ("gate=null", "gate: is empty; expected a mapping with the keys metric, "),
        ("name=5", "name: expected a text; write it in quotes: '5' (got 5)"),
        ("name=yes", "name: expected a text; write it in quotes, as 'yes' (got true)"),
        ("name=Casting Parts", "name: expected lower-case letters, digits and dashes, such as steel-2 (got 'Casting"),
        ("data.source={kind: folder, path: [a]}", "data.source.path: expected a path, such as data/images (got ['a'])"),
        (
            "data.source=/data/vision",
            "data.source: expected a mapping of settings, such as {kind: folder, path: data/images} (got '/data/",
        ),
        ("data.source={kind: foldr}", "data.source: unknown kind 'foldr'; did you mean 'folder'? known: 'folder', "),
        ("data.source={kind: url, url: 'https://h/x', sha256: abc}", "sha256: expected 64 hexadecimal digits"),
        ("validation.severities=error", "validation.severities: expected a mapping, such as {missing_image: error}"),
        ("validation.severities={leak: fatal}", "severities.leak: expected error, warning or info (got 'fatal')"),
        ("validation.severities={duplicates: error}", "did you mean 'duplicate_id', 'duplicate_"),
        ("validation.severities={zzzz: error}", "; known here: ambiguous_name, animated, bad_box, "),
        ("validation.severities={zzzz: error}", ", … (52 in all)"),
        ("data.labels={a: {classes: [x, y]}}", "data.labels.a.classes: expected a mapping, such as {name: [name]}"),
        (
            "data.labels={a: {ranges: {x: [1], y: [2, 3]}}}",
            "data.labels.a.ranges.x: expected a list of 2 values, such as [0.5, 0.5] (got [1])",
        ),
        (
            "data.labels={a: {classes: {ok: [x], bad: [y]}, positive: bat}}",
            "data.labels.a.positive: 'bat' is not a class of the rule; did you mean 'bad'?",
        ),
    ],
)
def test_a_wrong_value_is_answered_in_words_of_the_file(tmp_path, settings, message):
    path = tmp_path / "case.yaml"
    path.write_text("name: case\ndata: {source: {kind: sample}}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [settings])
    assert message in str(caught.value)
    assert "more)" not in str(caught.value), "one mistake is one"


@pytest.mark.parametrize("key", ["data.source", "data.additions"])
@pytest.mark.parametrize(("kind", "words"), [("ftp", "unknown kind 'ftp'; known: "), (None, "set it to one of ")])
def test_an_unknown_or_missing_kind_is_answered_with_all_kinds(key, kind, words):
    raw = Section((), Config, {}).settings()
    _put(raw, tuple(key.split(".")), {} if kind is None else {"kind": kind})
    (text,) = _texts(raw)
    assert key in text
    assert words in text
    kinds = [s.tags[f"{key}.kind"] for s in SECTIONS if f"{key}.kind" in s.tags]
    assert len(kinds) == {"data.source": 8, "data.additions": 9}[key]
    assert all(kind in text.partition(words)[2] for kind in kinds)


def test_an_unknown_task_is_answered_with_all_tasks():
    raw = {**Section((), Config, {}).settings(), "task": "regression"}
    wanted = "task: unknown task 'regression'; registered are detection, classification, attributes; correct the name"
    assert any(text.startswith(wanted) for text in _texts(raw))


@pytest.mark.parametrize("task", [[], {}, [["detection"]]])
def test_a_task_that_is_no_word_is_refused_in_one_line(task):
    raw = {**Section((), Config, {}).settings(), "task": task}
    assert _texts(raw)[0].startswith("task: ")


@pytest.mark.parametrize("uri", ["postgresql://user@host/db", "ftp://host/x", "s3://", "/data", "S3:bucket"])
def test_a_wrong_address_of_data_is_not_sent_to_a_database(uri):
    raw = {"name": "case", "data": {"source": {"kind": "s3", "uri": uri}}}
    assert _texts(raw) == [f"data.source.uri: must be s3://bucket/prefix (got {uri!r})"]


def test_an_address_with_a_password_is_not_shown():
    raw = {"name": "case", "data": {"source": {"kind": "s3", "uri": "s3://user:sesame@bucket/x"}}}
    (text,) = _texts(raw)
    assert text.startswith("data.source.uri: holds a password")
    assert "sesame" not in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("validation: {severities: {leek: error}}", "unknown key 'validation.severities.leek'; did you mean 'leak'?"),
        (
            "gate: {metric: map5}",
            "gate.metric: did you mean 'map50'? detection has map50, map50_95, precision, recall, f1 (got 'map5')",
        ),
        (
            "tuning: {grid: [{epoch: 3}]}",
            "tuning.grid.0: unknown key 'training.epoch'; did you mean 'epochs'?",
        ),
        (
            "tuning: {space: {tiles.size: {low: 640, high: 700}}}",
            "tuning.space.tiles.overlap: 'training.tiles.overlap' is missing",
        ),
        (
            "task: classification\ntraining: {task: attributes}",
            "training.task: expected classification, got attributes",
        ),
        ("training: {task: tiling}", "training: unknown task 'tiling'; known: 'detection', 'classification'"),
    ],
)
def test_constraints_between_sections(tmp_path, settings, message):
    path = tmp_path / "case.yaml"
    path.write_text(f"name: case\ndata: {{source: {{kind: sample}}}}\n{settings}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)


def _problems(raw: dict[str, Any]) -> list[Any]:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(raw)
    return [describe_problem(error, Config) for error in caught.value.errors()]


def _texts(raw: dict[str, Any]) -> list[str]:
    return [problem.text for problem in _problems(raw)]
