"""Rules for additional columns in the records of a model, stored in its card.

The reference in the bundle, the server and batch inference read the rules from the same card, so they cannot differ.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["MOST_COLUMNS", "RESERVED", "ColumnRules", "RecordRules", "SourcePattern"]

MOST_COLUMNS = 20
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
RESERVED = frozenset(
    (
        *("time", "request_id", "model", "version", "digest", "latency_ms", "count", "labels", "confidences"),
        *("probabilities", "areas", "centres_x", "centres_y", "embedding", "image", "source", "columns"),
        *("answer_json", "arm", "image_sha256"),
        *("brightness", "contrast", "sharpness", "noise", "saturation", "red", "green", "blue", "entropy"),
        *("width", "height", "aspect"),
    )
)
"""Names that a record or a drift report already has."""


def _check_columns(columns: dict[str, str]) -> dict[str, str]:
    if len(columns) > MOST_COLUMNS:
        raise ValueError(f"has {len(columns)} columns, expected at most {MOST_COLUMNS}; remove some")
    for name, function in columns.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a column: expected 1 to 40 of a-z, 0-9 and _, first a letter")
        if name in RESERVED:
            raise ValueError(f"{name!r} is already a column of every record; choose another name")
        if not _FUNCTION.fullmatch(function):
            raise ValueError(f"{name}: expected module:function, such as plant.columns:{name} (got {function!r})")
    return columns


def _check_pattern(pattern: str) -> str:
    if not pattern:
        return pattern
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"is not a regular expression ({error})") from error
    if "source" not in groups:
        raise ValueError("has no group named source, such as '^(?P<source>cam[0-9]+)/'")
    return pattern


ColumnRules = Annotated[dict[str, str], AfterValidator(_check_columns)]
"""Function that computes a column, ``module:function``, keyed by the column's name."""
SourcePattern = Annotated[str, AfterValidator(_check_pattern)]
"""Regular expression whose group ``source`` names the source; "" for none."""


class RecordRules(BaseModel):
    """Additional content of records beside the task's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    columns: ColumnRules = Field(default_factory=dict)
    source_pattern: SourcePattern = ""
    """Pattern searched in the key of an image of the data set or of a batch, and in the id of a request without
    X-Source."""
