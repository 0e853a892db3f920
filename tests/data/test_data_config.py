"""Errors of the `data` section: settings that contradict each other or the task."""

from __future__ import annotations

import pytest

from visionops.config import Config, load_config
from visionops.errors import ConfigError

SOURCE = "  source: {kind: folder, path: images}\n"
RULE = "{classes: {ok: [0], bad: [1]}}"


def load(folder, task: str, data: str) -> Config:
    path = folder / "case.yaml"
    path.write_text(f"name: case\ntask: {task}\ndata:\n{SOURCE}{data}", encoding="utf-8")
    return load_config(path)


@pytest.mark.parametrize(
    ("task", "data", "place", "words"),
    [
        (
            "detection",
            "  format: folders\n",
            ":5",
            "reads vision, coco, yolo, voc, labelme, cvat, via, label_studio, fiftyone, csv, imagefolder or auto",
        ),
        ("detection", "  format: table\n", ":5", "label_studio, fiftyone, csv, imagefolder or auto (got 'table')"),
        (
            "classification",
            "  format: coco\n",
            ":5",
            "classification reads folders, table, imagefolder, label_studio, fiftyone or auto (got 'coco')",
        ),
        (
            "attributes",
            "  format: vision\n",
            ":5",
            "attributes reads folders, table, imagefolder, label_studio, fiftyone or auto",
        ),
        (
            "classification",
            f"  format: table\n  labels: {{a: {RULE}, b: {RULE}}}\n",
            ":6",
            "data.labels: classification takes one, got a, b; keep one, or set task: attributes",
        ),
        (
            "attributes",
            f"  format: folders\n  labels: {{a: {RULE}, b: {RULE}}}\n",
            ":6",
            "data.labels: class folders allow one attribute",
        ),
        (
            "classification",
            "  format: folders\n  delimiter: ';'\n",
            ":6",
            "data.delimiter: only for format table (got folders)",
        ),
        ("classification", "  format: folders\n  lots: [s1]\n", ":6", "data.lots: only for format table (got folders)"),
        (
            "detection",
            f"  format: coco\n  labels: {{a: {RULE}}}\n",
            ":6",
            "data.labels: only for format folders or table or imagefolder (got coco)",
        ),
        (
            "classification",
            "  format: table\n  categories: [x]\n",
            ":6",
            "data.categories: only for format vision or coco",
        ),
        (
            "classification",
            "  format: table\n  delimiter: '::'\n",
            ":6",
            "data.delimiter: must be one character, or 'whitespace'",
        ),
        ("classification", "  format: table\n  delimiter: '\"'\n", ":6", "data.delimiter: must be one character"),
        ("classification", "  format: table\n  columns: [a, a]\n", ":6", "data.columns: duplicate column name"),
        (
            "classification",
            "  format: folders\n  labels: {a: {column: b, classes: {ok: [0], bad: [1]}}}\n",
            ":6",
            "data.labels.a.column: only for format table; remove it",
        ),
        ("classification", "  format: table\n  weights: {column: p, values: {}}\n", ":6", "data.weights.values"),
        (
            "classification",
            "  format: table\n  labels: {a: {classes: {ok: [0]}}}\n",
            ":6",
            "needs at least two classes",
        ),
        ("classification", "  format: table\n  labels: {a: {}}\n", ":6", "give either classes"),
        (
            "classification",
            "  format: table\n  labels: {a: {classes: {yes: [1], no: [0]}}}\n",
            ":6",
            "YAML reads the class name true as a boolean; write it in quotes, as 'yes'",
        ),
        (
            "classification",
            "  format: table\n  labels: {a: {classes: {ok: [1], bad: ['1.0']}}}\n",
            ":6",
            "raw value '1.0' stands for both 'ok' and 'bad'",
        ),
        (
            "classification",
            "  format: table\n  labels: {a: {classes: {ok: [1], bad: [2]}, drop: [2]}}\n",
            ":6",
            "raw value 2 stands for both 'bad' and drop",
        ),
        (
            "classification",
            "  format: table\n  labels: {a: {ranges: {ok: [0, 0.5], bad: [0.5, 1]}}}\n",
            ":6",
            "the ranges of 'ok' and 'bad' overlap at 0.5",
        ),
        (
            "classification",
            "  format: table\n  labels: {a: {ranges: {ok: [1, 0], bad: [2, 3]}}}\n",
            ":6",
            "the range of 'ok' ends before it begins",
        ),
        (
            "classification",
            "  format: table\n  labels: {a: {classes: {ok: [0], bad: [1]}, positive: defective}}\n",
            ":6",
            "positive: 'defective' is not a class of the rule; known: ok, bad",
        ),
        (
            "classification",
            "  format: table\n  labels: {a: {clases: {ok: [0], bad: [1]}}}\n",
            ":6",
            "did you mean 'classes'?",
        ),
    ],
)
def test_contradictions_are_one_line(tmp_path, task, data, place, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, task, data)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'case.yaml'}{place}: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("task", ["classification", "attributes"])
@pytest.mark.parametrize("format_", ["folders", "table"])
def test_a_section_alone_is_still_a_configuration(tmp_path, task, format_):
    config = load(tmp_path, task, f"  format: {format_}\n")
    alone = config.training_plan
    assert alone.training == config.training
    assert alone.task == config.task
    assert type(alone).model_validate(alone.model_dump()) == alone


def test_dumping_and_reading_gives_the_same_settings(tmp_path):
    data = """\
  format: table
  columns: [path, p]
  labels: {a: {column: p, classes: {none: ['', 0], bad: [1, true]}, default: bad, drop: [0.5]}}
  weights: {column: p, values: {0: 1, 0.33: 0.5}}
  notes: [No part numbers.]
"""
    config = load(tmp_path, "classification", data)
    assert Config.model_validate_json(config.model_dump_json()) == config
