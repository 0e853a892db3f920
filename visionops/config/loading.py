"""Load a checked configuration from YAML and ``--set``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from visionops.config.messages import explain
from visionops.config.use_case import Config
from visionops.errors import ConfigError
from visionops.schema import Key

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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.as_posix() for p in path.parent.glob("*.yaml"))) or "none"
        raise ConfigError(f"{path}: no such configuration; available: {known}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    return parse_settings(text, path, Config, overrides)


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
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}:1: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        first = next(iter(schema.model_fields))
        raise ConfigError(f"{path}:1: must be a mapping of settings, such as '{first}: …'")
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
