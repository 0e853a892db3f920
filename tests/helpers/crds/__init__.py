"""Strict schemas of the custom resources of our deployers; unknown fields and wrong types are refused.

Pods and some other parts are Kubernetes' own types, which `kubernetes_validate` checks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

__all__ = ["check_resource", "schema_of"]


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON schema of a custom resource with its own fields; Kubernetes' types are plain objects."""
    return dict(json.loads(Path(__file__).with_name(f"{kind}.json").read_text(encoding="utf-8")))


def check_resource(manifest: dict[str, Any]) -> None:
    """Validate a custom resource against the schema of its kind.

    Raises:
        jsonschema.ValidationError: It has a field or a type that is not the resource's.
    """
    jsonschema.Draft7Validator(schema_of(manifest["kind"])).validate(manifest)
