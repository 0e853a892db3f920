"""Estimate the current time per image, by its kind and the number of images processed at once."""

from __future__ import annotations

import dataclasses

__all__ = ["Pace", "Paces"]

_PAST = 0.9
"""Weight of the previous value in a running mean."""
_DEVIATIONS = 3.0
"""Number of mean deviations above the mean, within which nearly every image is done."""
_KINDS = 64
"""Maximum number of kinds, to bound the memory of a server that switches models all day."""


@dataclasses.dataclass(slots=True)
class _Mean:
    seconds: float
    deviation: float

    def add(self, seconds: float) -> None:
        self.deviation = _PAST * self.deviation + (1 - _PAST) * abs(seconds - self.seconds)
        self.seconds = _PAST * self.seconds + (1 - _PAST) * seconds


class Pace:
    """Mean time of one kind of image, for each number of images processed at once.

    An image takes longer beside three others than alone, so a common mean would be wrong for both.
    """

    def __init__(self) -> None:
        self._means: dict[int, _Mean] = {}
        self.fastest = float("inf")
        """Time of the fastest image so far, in seconds."""
        self.measured = float("-inf")
        """Time of the last measurement, on the caller's clock."""

    def add(self, seconds: float, together: int, now: float) -> None:
        """Add an image that took ``seconds`` while ``together`` images, including itself, were processed."""
        self.fastest, self.measured = min(self.fastest, seconds), now
        if (mean := self._means.get(together)) is None:
            self._means[together] = _Mean(seconds, seconds / 4)
        else:
            mean.add(seconds)

    def mean(self, together: int) -> float:
        """Return the mean seconds of an image; 0 if none was measured."""
        mean = self._nearest(together)
        return mean.seconds if mean else 0.0

    def most(self, together: int) -> float:
        """Return the seconds within which nearly every image is done; 0 if none was measured."""
        mean = self._nearest(together)
        return mean.seconds + _DEVIATIONS * mean.deviation if mean else 0.0

    def _nearest(self, together: int) -> _Mean | None:
        if not self._means:
            return None
        return self._means[min(self._means, key=lambda known: (abs(known - together), known))]


class Paces:
    """The pace of each kind: of each model, by its digest."""

    def __init__(self) -> None:
        self._of: dict[str, Pace] = {}

    def of(self, kind: str) -> Pace:
        """Return the pace of a kind."""
        found = self._of.pop(kind, None) or Pace()
        self._of[kind] = found  # the most recently used kind is last
        if len(self._of) > _KINDS:
            del self._of[next(iter(self._of))]
        return found
