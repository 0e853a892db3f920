"""Strict schemas of the custom resources that our deployers make: a field or a type that is not theirs is refused.

Their pods are Kubernetes' own, and so are some other parts: for those there is `kubernetes_validate`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

__all__ = ["check_resource", "schema_of"]


def schema_of(kind: str) -> dict[str, Any]:
    """JSON schema of a custom resource: its own fields; what is Kubernetes' is an object."""
    return dict(json.loads(Path(__file__).with_name(f"{kind}.json").read_text(encoding="utf-8")))


def check_resource(manifest: dict[str, Any]) -> None:
    """Hold a custom resource against the schema of its kind.

    Raises:
        jsonschema.ValidationError: It has a field or a type that is not the resource's.
    """
    jsonschema.Draft7Validator(schema_of(manifest["kind"])).validate(manifest)
