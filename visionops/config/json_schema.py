"""The JSON Schema of a use case, by which editors complete and check its YAML."""

from __future__ import annotations

from typing import Any

from visionops.config.use_case import Config
from visionops.inference.task_registry import task_names
from visionops.tasks.spec import task_for

__all__ = ["use_case_schema"]


def use_case_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a use case's YAML file.

    The settings under ``training`` and the values of ``gate.metric`` are those of the file's task. Tasks that installed
    packages bring are part of it. What several settings demand of one another is checked by `load_config` alone.
    """
    schema = _join_lines(Config.model_json_schema())
    sections = schema["properties"]
    training = sections["training"].pop("discriminator")["mapping"]
    del sections["training"]["oneOf"], sections["training"]["default"], sections["gate"]["default"]
    sections["task"]["enum"] = list(task_names())
    conditions = [_follow_task(task, training.get(task), sections["task"]["default"]) for task in task_names()]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "allOf": conditions}


def _follow_task(task: str, training: str | None, default: str) -> dict[str, Any]:
    """Return what holds of a use case of this task; that of the ``default`` is one that names none."""
    named: dict[str, Any] = {"properties": {"task": {"const": task}}}
    if task != default:
        named["required"] = ["task"]
    sections: dict[str, Any] = {"gate": {"properties": {"metric": {"enum": list(task_for(task).gate_metrics)}}}}
    if training is not None:
        sections["training"] = {"$ref": training, "properties": {"task": {"const": task}}}
    return {"if": named, "then": {"properties": sections}}


def _join_lines(node: Any) -> Any:
    """Return a schema whose descriptions have one line for each paragraph; titles, which only repeat keys, go."""
    if isinstance(node, list):
        return [_join_lines(item) for item in node]
    if not isinstance(node, dict):
        return node
    joined = {key: _join_lines(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if isinstance(text := joined.get("description"), str):
        joined["description"] = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    return joined
