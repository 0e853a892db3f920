"""Kinds of logs that are stored in segments: their records and their places."""

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

``id``: identity of the feedback; repeated feedback has the same id. ``content``: digest of its content.
``client``: id of the API key, "" where the server has none. ``request_id``: id of the prediction, "" for an image that
came with the feedback. ``model``, ``version``, ``answer_json``: which model gave which answer; without a request id
``model`` alone. ``sha256``: of the image, which is ``<segment>.files/<sha256>``. ``label_json``: in the form of the
task, where there is one. ``name``: of the image's file, as its sender calls it."""


@dataclasses.dataclass(frozen=True, slots=True)
class LogKind:
    """Kind of log."""

    schema: Callable[[], pa.Schema]
    """Function that returns the schema of its records."""
    table: str
    """Table of a PostgreSQL store. Its files are in a table with this name and ``_files``."""
    folder: str = ""
    """Folder below that of the prediction log, and prefix in an object store."""
    has_files: bool = False
    """Whether its files are beside their segment. Files of other logs are at the paths in their records."""


PREDICTIONS: Final = LogKind(record_schema, "visionops_predictions")
"""Requests and answers."""
FEEDBACK: Final = LogKind(lambda: FEEDBACK_RECORD, "visionops_feedback", "feedback", has_files=True)
"""People's feedback."""
