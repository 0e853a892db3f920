"""Write the reference pages that come from the code: `python -m docs.generate`, or `make docs-reference`.

A test fails when a committed page differs from what this module makes.
"""

from __future__ import annotations

import ast
import enum
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deploy.console.options import ConsoleOptions
from deploy.control.options import ControlOptions
from deploy.following.options import FollowOptions
from deploy.serving.settings import Settings as ServerSettings
from visionops.config.json_schema import use_case_schema
from visionops.options import CommandOptions, flag, variable

__all__ = ["PAGES", "UNITS", "main"]

Node = Mapping[str, Any]
"""A JSON Schema, or a part of one."""

FOLDER = Path(__file__).resolve().parent / "reference"
_DO_NOT_EDIT = "<!-- Made by `make docs-reference`; do not edit. -->\n"

UNITS = {
    "batch": "images",
    "cooldown_hours": "hours",
    "degrees": "degrees",
    "embedding_images": "images",
    "epochs": "epochs",
    "filters": "channels",
    "hold_minutes": "minutes",
    "image_size": "pixels",
    "images": "images",
    "keep_empty": "share",
    "kernel": "pixels",
    "latency_images": "images",
    "max_age_days": "days",
    "max_error_rate": "share",
    "max_pixels": "pixels",
    "max_tiles": "tiles",
    "max_upload_bytes": "bytes",
    "min_held_out": "images",
    "min_images": "images",
    "min_instances": "boxes",
    "min_labelled": "images",
    "min_new_labels": "images",
    "min_requests": "images",
    "min_shown": "images",
    "min_visible": "share",
    "near_duplicate_distance": "bits of 64",
    "new_labels": "images",
    "overlap": "pixels",
    "patience": "epochs",
    "prediction_log_images": "share",
    "reference_hours": "hours",
    "resamples": "resamples",
    "shards": "steps",
    "size": "pixels",
    "test": "share",
    "tolerance": "grey levels",
    "trials": "trainings",
    "val": "share",
    "white_level": "grey levels",
    "window_hours": "hours",
    "worst_images": "images",
}
"""Key to the unit of its numbers; keys that end with "share" are shares, and other numbers have no unit."""


def main() -> None:
    """Write all pages."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


def _json_schema() -> str:
    return json.dumps(use_case_schema(), indent=2, ensure_ascii=False) + "\n"


def _configuration() -> str:
    return "".join(
        (
            "# Configuration\n\n",
            _DO_NOT_EDIT,
            _CONFIGURATION,
            *_Keys(use_case_schema()).sections(),
        )
    )


_CONFIGURATION = """
Every key of a use case's YAML file. Unknown keys are refused with file, line and the nearest known key.
`--set KEY=VALUE` changes one for a run: `--set training.epochs=5`. `.venv/bin/python run.py --dry-run --config FILE`
prints all settings of a file with their values. Examples: [`configs/`](../../configs),
[bring your own data](../how-to/own-data.md).

A key without a default must be given. *none* means that the key may be left out; the last column says what follows.

## In an editor

[`use-case.schema.json`](use-case.schema.json) is the JSON Schema of these files. Editors with the YAML language server
(VS Code with the extension *YAML*, Neovim, Emacs) complete keys, show their meaning and mark mistakes when the file
names it:

```yaml
# yaml-language-server: $schema=../docs/reference/use-case.schema.json
```

The path is relative to the YAML file; the files in `configs/` have the line already. Elsewhere, write the schema beside
your file and name that one. It then has the tasks that your own packages add, too:

```bash
visionops schema > use-case.schema.json
```

The settings under `training` and the values of `gate.metric` follow the file's `task`. The schema does not check what
several settings demand of one another; `.venv/bin/python run.py --dry-run --config FILE` checks all of it.
"""


class _Keys:
    """The tables of a schema, each model once."""

    def __init__(self, schema: Node) -> None:
        self._schema = schema
        self._models: Mapping[str, Node] = schema["$defs"]
        self._places: dict[str, str] = {}
        """Model to the key below which it is described."""
        self._enums = {
            found.__name__: found
            for found in enum.StrEnum.__subclasses__()
            if found.__module__.startswith("visionops.")
        }

    def sections(self) -> Iterator[str]:
        """Yield Markdown: the keys at the top, then each section with what stands below it."""
        top = self._schema["properties"]
        yield "\n## The file\n\n" + self._table("", self._schema)
        for key, node in top.items():
            if key == "training":
                yield f"\n## `training`\n\n{self._meaning(node)}\n"
                yield from self._trainings()
            elif (name := _reference(node)) is not None:
                yield from self._model(key, name, 2)

    def _trainings(self) -> Iterator[str]:
        tasks: dict[str, list[str]] = {}
        for condition in self._schema["allOf"]:
            then = condition["then"]["properties"]
            if "training" in then:
                task = condition["if"]["properties"]["task"]["const"]
                tasks.setdefault(str(_reference(then["training"])), []).append(task)
        for name, known in tasks.items():
            yield f"\n### `training` of {' and '.join(known)}\n\n{self._text(self._models[name])}\n\n"
            yield self._table("training", self._models[name])
            yield from self._below("training", self._models[name], 3)

    def _model(self, path: str, name: str, level: int, title: str = "") -> Iterator[str]:
        model = self._models[name]
        self._places[name] = path
        yield f"\n{'#' * level} {title or f'`{path}`'}\n\n{self._text(model)}\n\n{self._table(path, model)}"
        yield from self._below(path, model, min(level + 1, 4))

    def _below(self, path: str, model: Node, level: int) -> Iterator[str]:
        for key, node in model["properties"].items():
            for alternative in filter(None, map(_reference, node.get("oneOf", ()))):
                if alternative not in self._places:
                    kind = self._models[alternative]["properties"]["kind"]["const"]
                    yield from self._model(f"{path}.{key}", alternative, level, f"`{path}.{key}`, `kind: {kind}`")
            if (name := self._section(node)) and name not in self._places:
                yield from self._model(self._place(path, key, node), name, level)

    def _section(self, node: Node) -> str | None:
        """Return the model of a key whose value, or each of whose values by name, is a section."""
        nodes = (node, node.get("additionalProperties"), *node.get("anyOf", ()))
        return next((name for name in map(_reference, nodes) if name and "properties" in self._models[name]), None)

    def _place(self, path: str, key: str, node: Node) -> str:
        """Return the title below which the section of a key is described; "" for a key that has none."""
        name = self._section(node)
        if name is None:
            return key if key == "training" and not path else ""
        below = f"{path}.{key}" if path else key
        return self._places.get(name) or (f"{below}.NAME" if "additionalProperties" in node else below)

    def _table(self, path: str, model: Node) -> str:
        rows = ["| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
        required = model.get("required", ())
        for key, node in model["properties"].items():
            default = "" if key in required else self._default(node)
            kind = self._type(node)
            if (place := self._place(path, key, node)) and kind.endswith("section"):
                kind = kind.removesuffix("section") + f"[section](#{place.replace('.', '').lower()})"
            meaning = self._meaning(node)
            if (path, key) == ("gate", "metric"):
                default, meaning = "the first", f"What models are compared by. {self._gate_metrics()}"
            cells = (f"`{key}`", kind, default, self._unit(key, node), meaning)
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(rows) + "\n"

    def _gate_metrics(self) -> str:
        texts = []
        for condition in self._schema["allOf"]:
            task = condition["if"]["properties"]["task"]["const"]
            metrics = condition["then"]["properties"]["gate"]["properties"]["metric"]["enum"]
            texts.append(f"Of {task}: {_choices(metrics)}.")
        return " ".join(texts)

    def _type(self, node: Node) -> str:
        if (name := _reference(node)) is not None:
            found = self._models[name]
            return _choices(found["enum"]) if "enum" in found else "section"
        if "oneOf" in node:
            kinds = [self._models[str(_reference(one))]["properties"]["kind"]["const"] for one in node["oneOf"]]
            return f"section of `kind` {_choices(kinds)}"
        if "anyOf" in node:
            kinds = [self._type(one) for one in node["anyOf"] if one.get("type") != "null"]
            return "any value" if len(kinds) > 3 else " or ".join(kinds)
        if "const" in node:
            return _choices([node["const"]])
        if "enum" in node:
            return _choices(node["enum"])
        known: dict[str, Callable[[Node], str]] = {
            "array": self._list_type,
            "object": self._mapping_type,
            "string": lambda node: {"path": "path"}.get(node.get("format", ""), "text"),
            "boolean": lambda _: "true or false",
            "integer": lambda node: f"whole number{_bounds(node)}",
            "number": lambda node: f"number{_bounds(node)}",
        }
        return known[node["type"]](node) if "type" in node else "section"

    def _list_type(self, node: Node) -> str:
        if "prefixItems" in node:
            return "list of " + ", ".join(self._type(item) for item in node["prefixItems"])
        return f"list of {self._type(node['items'])}"

    def _mapping_type(self, node: Node) -> str:
        names = _reference(node.get("propertyNames"))
        keys = "code" if names else "name"
        return f"mapping of {keys} to {self._type(node['additionalProperties'])}"

    def _unit(self, key: str, node: Node) -> str:
        kinds = [node, *node.get("anyOf", ())]
        if not any(one.get("type") in {"integer", "number"} or key in UNITS for one in kinds):
            return ""
        return UNITS.get(key, "share" if key.endswith("share") else "")

    def _default(self, node: Node) -> str:
        if "default" not in node:
            return "empty" if "additionalProperties" in node else "see below"
        default = node["default"]
        if default is None:
            return "none"
        if (_reference(node) and isinstance(default, dict)) or "oneOf" in node:
            return "see below"
        text = json.dumps(default, ensure_ascii=False)
        return f"`{default if isinstance(default, str) and default else text}`"

    def _meaning(self, node: Node) -> str:
        name = _reference(node)
        if "const" in node and "description" not in node:
            return "Chooses this kind."
        text = node.get("description") or (self._models[name].get("description", "") if name else "")
        found = self._enums.get(name or "")
        documented = _member_docs(found) if found else {}
        if documented:
            text += " " + " ".join(f"`{value}`: {_lower(meaning)}" for value, meaning in documented.items())
        if "oneOf" in node and (place := self._places.get(str(_reference(node["oneOf"][0])))):
            text += f" The kinds are those of `{place}`."
        return " ".join(str(text).replace("``", "`").split())

    def _text(self, model: Node) -> str:
        return str(model.get("description", "")).replace("``", "`")


def _reference(node: object) -> str | None:
    """Return the name of the model that a node refers to."""
    found = node.get("$ref") if isinstance(node, Mapping) else None
    return found.rpartition("/")[2] if isinstance(found, str) else None


def _choices(values: list[Any]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _bounds(node: Node) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    words = []
    if low is not None:
        words.append(f"{low:,} or more" if high is None else f"{low:,} to {high:,}")
    if "exclusiveMinimum" in node:
        words.append(f"above {node['exclusiveMinimum']:,}")
    if low is None and high is not None:
        words.append(f"up to {high:,}")
    if "exclusiveMaximum" in node:
        words.append(f"below {node['exclusiveMaximum']:,}")
    return ", " + ", ".join(words) if words else ""


def _lower(sentence: str) -> str:
    """Return a sentence to stand behind a colon; an abbreviation or a name keeps its capital."""
    first = sentence.split(maxsplit=1)[0] if sentence else ""
    is_name = first[1:] != first[1:].lower() or first.rstrip(":,") in _NAMES
    return sentence if is_name else sentence[:1].lower() + sentence[1:]


_NAMES = {"Evidently's", "FiftyOne's", "Hugging", "Intel's", "Pascal", "Label"}


def _member_docs(found: type[enum.Enum]) -> dict[str, str]:
    """Return value to docstring of the members that have one; Python keeps no docstrings of members."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(found))).body
    assert isinstance(body, ast.ClassDef)
    documented = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            (target,) = before.targets
            assert isinstance(target, ast.Name)
            documented[str(found[target.id].value)] = " ".join(str(after.value.value).split())
    return documented


_PROGRAMS: dict[str, type[CommandOptions]] = {
    "The prediction server": ServerSettings,
    "The control service": ControlOptions,
    "The console": ConsoleOptions,
    "The follower of the registry": FollowOptions,
}


def _server_options() -> str:
    text = f"# Options of the servers\n\n{_DO_NOT_EDIT}{_OPTIONS}"
    for title, options in _PROGRAMS.items():
        text += f"\n## {title}\n\n`{options.PROGRAM}`. {options.DESCRIPTION}\n\n{_options_table(options)}"
    return text


_OPTIONS = """
Each option is an argument of the program and an environment variable. An argument wins over its variable; an empty
variable counts as absent. Secrets have a variable only, because every user of a machine can read a command line. All
other variables: [environment](environment.md). What the server does: [the server](../how-to/serving.md).
"""


def _options_table(options: type[CommandOptions]) -> str:
    rows = ["| argument | variable | default | meaning |", "|---|---|---|---|"]
    for name, field in options.model_fields.items():
        argument = "" if name in options.SECRETS else f"`{flag(name)}`"
        default = _plain(field.get_default(call_default_factory=True))
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| {argument} | `{variable(name)}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _plain(default: object) -> str:
    if default in (None, "", ()):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default.model_dump_json() if isinstance(default, BaseModel) else default}`"


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": _configuration,
    "server-options.md": _server_options,
    "use-case.schema.json": _json_schema,
}
"""File below docs/reference to what makes its text."""


if __name__ == "__main__":
    main()
