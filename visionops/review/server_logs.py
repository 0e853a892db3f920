"""What the servers of an endpoint have logged, for review to read."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from visionops.data.files import safe_name
from visionops.monitoring.kinds import FEEDBACK, PREDICTIONS
from visionops.monitoring.segment_reading import LogSource
from visionops.monitoring.stores import is_store

__all__ = ["ServerLogs"]

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class ServerLogs:
    """The prediction log and the feedback log of an endpoint's servers.

    Args:
        place: Folder of the prediction log, or the URI of its store.
        store: Of the folder's log; what the folder does not have (any more) is read there.

    Raises:
        DataError: A name is none of a store.
    """

    def __init__(self, place: Path | str, store: str | None = None) -> None:
        self._folder = None if is_store(place) else Path(place)
        self.predictions = LogSource(place, store, PREDICTIONS)
        self.feedback = LogSource(place if self._folder is None else self._folder / FEEDBACK.folder, store, FEEDBACK)

    def image(self, stem: str, record: Mapping[str, Any]) -> bytes | None:
        """Return the sampled image of a record, from the folder or else the store; None where it is gone.

        Args:
            stem: Of the record's segment.

        Raises:
            DataError: The store cannot be reached.
        """
        name = record["image"]
        if self._folder is not None and safe_name(name) == name:
            with contextlib.suppress(OSError):
                return (self._folder / str(name)).read_bytes()
        # From the store it is verified: another program may have written there.
        digest = record["image_sha256"]
        data = self.predictions.read_file(stem, digest) if digest and _DIGEST.fullmatch(digest) else None
        return data if data is not None and hashlib.sha256(data).hexdigest() == digest else None
