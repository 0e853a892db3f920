"""How long an image takes at present, by what it needs and how many images are in work with it."""

from __future__ import annotations

import dataclasses

__all__ = ["Pace", "Paces"]

_PAST = 0.9
"""Weight of the past in a mean."""
_DEVIATIONS = 3.0
"""Mean deviations above the mean within which nearly every image is done."""
_KINDS = 64
"""Kinds that are remembered: a server that switches models all day must not remember them all."""


@dataclasses.dataclass(slots=True)
class _Mean:
    seconds: float
    deviation: float

    def add(self, seconds: float) -> None:
        self.deviation = _PAST * self.deviation + (1 - _PAST) * abs(seconds - self.seconds)
        self.seconds = _PAST * self.seconds + (1 - _PAST) * seconds


class Pace:
    """Seconds of one kind of image. Each number of images in work has a mean of its own.

    An image beside three others takes longer than one that is alone: one mean over both would be wrong for each.
    """

    def __init__(self) -> None:
        self._means: dict[int, _Mean] = {}
        self.fastest = float("inf")
        """Seconds of the fastest image so far."""
        self.measured = float("-inf")
        """When an image was measured last, on the clock of its caller."""

    def add(self, seconds: float, together: int, now: float) -> None:
        """Count an image that took ``seconds`` while ``together`` images were in work, itself included."""
        self.fastest, self.measured = min(self.fastest, seconds), now
        if (mean := self._means.get(together)) is None:
            self._means[together] = _Mean(seconds, seconds / 4)
        else:
            mean.add(seconds)

    def mean(self, together: int) -> float:
        """Return the seconds of an image on average; 0 where none was measured."""
        mean = self._nearest(together)
        return mean.seconds if mean else 0.0

    def most(self, together: int) -> float:
        """Return the seconds within which nearly every image is done; 0 where none was measured."""
        mean = self._nearest(together)
        return mean.seconds + _DEVIATIONS * mean.deviation if mean else 0.0

    def _nearest(self, together: int) -> _Mean | None:
        if not self._means:
            return None
        return self._means[min(self._means, key=lambda known: (abs(known - together), known))]


class Paces:
    """The paces of all kinds: of each model, by its digest."""

    def __init__(self) -> None:
        self._of: dict[str, Pace] = {}

    def of(self, kind: str) -> Pace:
        """Return the pace of a kind."""
        found = self._of.pop(kind, None) or Pace()
        self._of[kind] = found  # the last one used stands last
        if len(self._of) > _KINDS:
            del self._of[next(iter(self._of))]
        return found
