"""Load a checked configuration from YAML and ``--set``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from visionops.config.messages import explain
from visionops.config.use_case import Config
from visionops.errors import ConfigError
from visionops.schema import Key
from visionops.suggestions import nearest_names

__all__ = ["load_config", "parse_settings"]

_Schema = TypeVar("_Schema", bound=BaseModel)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read, override and check a configuration.

    Args:
        path: A YAML file.
        overrides: ``key.sub=value`` entries; the value is read as YAML.

    Raises:
        ConfigError: The configuration is invalid; the message has file and line, or the override, and the fix.
    """
    return parse_settings(_read(path), path, Config, overrides)


def parse_settings(text: str, path: Path, schema: type[_Schema], overrides: Sequence[str] = ()) -> _Schema:
    """Check the text of a YAML file against ``schema``, which forbids unknown keys.

    Args:
        path: Path to show in errors.
        overrides: ``key.sub=value`` entries; the value is read as YAML.

    Raises:
        ConfigError: The configuration is invalid; the message has file and line, or the override, and the fix.
    """
    try:
        root = yaml.compose(text, Loader=_UniqueKeyLoader)
        raw = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader that also refuses duplicate keys
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}:{_explain_syntax(error)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}:1: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        first = next(iter(schema.model_fields))
        what = "is empty" if raw is None else "must be a mapping of settings"
        raise ConfigError(f"{path}:1: {what}; write a line for each setting, such as '{first}: …'")
    places = {key: f"{path}:{line}" for key, line in _lines(root)}
    for override in overrides:
        key, value = _parse_override(override)
        _assign(raw, key, value, override)
        for depth in range(1, len(key) + 1):
            if depth == len(key) or key[:depth] not in places:
                places[key[:depth]] = f"--set {override}"
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, places, path, schema)) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration; {_suggest_file(path)}") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a folder; give one of its files: {_list_files(path)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text in UTF-8; give a YAML file, such as configs/sample.yaml") from error
    except PermissionError as error:
        raise ConfigError(f"{path}: no permission to read it; chmod u+r {shlex.quote(str(path))}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error


def _suggest_file(path: Path) -> str:
    """Suggest the nearest file of the folder, or of ``configs``, for a use case by its bare name."""
    files = [file.as_posix() for folder in dict.fromkeys((path.parent, Path("configs"))) for file in _files(folder)]
    by_stem = {Path(file).stem: file for file in reversed(files)}
    near = nearest_names(path.stem, by_stem)
    return f"did you mean {by_stem[near[0]]}?" if near else f"there are: {', '.join(files) or 'none'}"


def _list_files(folder: Path) -> str:
    return ", ".join(file.as_posix() for file in _files(folder)) or "it has no .yaml file"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def _explain_syntax(error: yaml.MarkedYAMLError) -> str:
    """Return line, column and what is wrong there, beginning with the line."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = " ".join(str(error.problem or error.context).split())
    advice = next((fix for words, fix in _SYNTAX_FIXES.items() if words in problem), "")
    return f"{line}: not valid YAML at column {column}: {problem}" + (f"; {advice}" if advice else "")


_SYNTAX_FIXES = {
    r"character '\t'": "indent with spaces, not with tabs",
    "mapping values are not allowed here": "indent keys alike, and put a value with ': ' in quotes",
    "expected ',' or": "a bracket or brace that is opened before is not closed",
    "could not find expected ':'": "write a key as 'key: value', with a space behind the colon",
    "expected <block end>": "indent the keys of a mapping alike",
}
"""Words of PyYAML's messages, and the fix."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys; PyYAML silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):  # such as a template that was not filled in: {{ name }}: 1
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep=deep))


def _lines(node: yaml.Node | None, prefix: Key = ()) -> Iterator[tuple[Key, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            yield path, key.start_mark.line + 1
            yield from _lines(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            path = (*prefix, str(index))
            yield path, value.start_mark.line + 1
            yield from _lines(value, path)


def _parse_override(override: str) -> tuple[Key, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override}: expected key=value, such as training.epochs=5")
    text = text.strip()
    try:
        value = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        what = " ".join(str(error.problem or error.context).split())
        raise ConfigError(f"--set {override}: the value is not valid YAML: {what}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    # On a command line # does not begin a comment: it may be part of a folder name.
    is_plain = text.startswith("#") or (isinstance(value, str) and text[0] not in "'\"|>!&")
    return tuple(key.strip().split(".")), text if is_plain else value


def _assign(raw: dict[str, Any], key: Key, value: Any, override: str) -> None:
    node = raw
    for part in key[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {part!r} holds a value, not settings")
        node = child
    node[key[-1]] = value
