"""Read the logs of an endpoint's servers for the review."""

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
        store: Store of the folder's log; segments that the folder no longer has are read there.

    Raises:
        DataError: The URI is not that of a store.
    """

    def __init__(self, place: Path | str, store: str | None = None) -> None:
        self._folder = None if is_store(place) else Path(place)
        self.predictions = LogSource(place, store, PREDICTIONS)
        self.feedback = LogSource(place if self._folder is None else self._folder / FEEDBACK.folder, store, FEEDBACK)

    def image(self, stem: str, record: Mapping[str, Any]) -> bytes | None:
        """Return the sampled image of a record, from the folder or else the store; None where it no longer exists.

        Args:
            stem: Stem of the record's segment.

        Raises:
            DataError: The store cannot be reached.
        """
        name = record["image"]
        if self._folder is not None and safe_name(name) == name:
            with contextlib.suppress(OSError):
                return (self._folder / str(name)).read_bytes()
        # An image from the store is verified, because another program may have written it.
        digest = record["image_sha256"]
        data = self.predictions.read_file(stem, digest) if digest and _DIGEST.fullmatch(digest) else None
        return data if data is not None and hashlib.sha256(data).hexdigest() == digest else None
