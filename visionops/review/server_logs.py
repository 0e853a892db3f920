"""What the servers of an endpoint have logged, for review to read."""

from __future__ import annotations

from pathlib import Path

from visionops.data.files import safe_name
from visionops.monitoring.kinds import FEEDBACK, PREDICTIONS
from visionops.monitoring.segment_reading import LogSource
from visionops.monitoring.stores import is_store

__all__ = ["ServerLogs"]


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

    def image(self, name: str) -> bytes | None:
        """Return a sampled image by the name that its record has; None where it is gone."""
        if self._folder is None or safe_name(name) != name:
            return None
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            return None
