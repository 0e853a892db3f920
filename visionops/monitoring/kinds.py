"""The logs that are kept in segments: what their records are, and where they are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from visionops.monitoring.record import record_schema

__all__ = ["FEEDBACK", "FEEDBACK_RECORD", "FILES", "PREDICTIONS", "LogKind"]

FILES: Final = ".files"
"""Suffix of the folder beside a segment with the files that its records name."""

FEEDBACK_RECORD: Final = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        *((name, pa.string()) for name in ("id", "content", "client", "request_id", "model", "version", "sha256")),
        *((name, pa.string()) for name in ("answer_json", "label_json", "comment", "name")),
    ]
)
"""The columns of the feedback log.

``id``: identity of the feedback; the same feedback, sent again, has the same. ``content``: digest of what it says.
``client``: id of the API key, "" where the server has none. ``request_id``: of the prediction that it is about, "" for
an image that came with it. ``model``, ``version``, ``answer_json``: which model gave which answer; without a request id
``model`` alone. ``sha256``: of the image, which is ``<segment>.files/<sha256>``. ``label_json``: in the form of the
task, where there is one. ``name``: of the image's file, as its sender calls it."""


@dataclasses.dataclass(frozen=True, slots=True)
class LogKind:
    """One of the logs."""

    schema: Callable[[], pa.Schema]
    """Returns the schema of its records."""
    table: str
    """Of a PostgreSQL store. Its files are in a table of that name with ``_files`` behind it."""
    folder: str = ""
    """Below the folder of the prediction log, and below the prefix of an object store."""
    has_files: bool = False
    """Whether its files lie beside their segment. Those of other logs lie where their records say."""


PREDICTIONS: Final = LogKind(record_schema, "visionops_predictions")
"""What was asked and answered."""
FEEDBACK: Final = LogKind(lambda: FEEDBACK_RECORD, "visionops_feedback", "feedback", has_files=True)
"""What people said of it."""
