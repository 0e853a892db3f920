"""Distribute units over splits by their draw, and move some if a split lacks a class."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from visionops.data.duplicates import too_many
from visionops.data.splitting.units import Rows

__all__ = ["Pool"]

_FEW = 20
"""Number of images at which balancing becomes loose; at twice that, it hardly moves anything."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """Units that are distributed over several splits; the first split gets what the others do not take."""

    labels: npt.NDArray[np.int64]
    """(units, classes + 1): images of the unit that show a class; the last column: images that show none."""
    sizes: npt.NDArray[np.int64]
    """(units,), number of images."""
    drawn: npt.NDArray[np.float64]
    """(units,), see `Units`."""
    shares: npt.NDArray[np.float64]
    """(splits,), share of each split; their sum is 1."""
    elsewhere: npt.NDArray[np.int64]
    """(splits, classes + 1): images that the splits hold already."""

    def deal(self, *, has_test: bool) -> Rows:
        """Return the split number of each unit: the lowest draws are in test, the lowest of the others in val.

        Test depends only on the draw, so that no image enters or leaves it because of others. Val gets its share of
        each class from the rest.
        """
        dealt = np.zeros(len(self.sizes), dtype=np.int64)
        is_free = ~self._is_large
        if has_test:
            in_test = is_free & (self.drawn < self.shares[-1])
            dealt[in_test] = len(self.shares) - 1
            is_free &= ~in_test
        if len(self.shares) > 1 + has_test:
            kept = self.shares[:2].sum()
            dealt[self._stratified(is_free, self.shares[1] / kept)] = 1
        return dealt

    def deal_alone(self) -> Rows:
        """Return the split number of each unit by its draw only, the last split lowest."""
        borders = np.cumsum(self.shares[::-1])[:-1]
        dealt = len(self.shares) - 1 - np.searchsorted(borders, self.drawn, side="right")
        return np.where(self._is_large, 0, dealt)

    @property
    def _is_large(self) -> npt.NDArray[np.bool_]:
        """Bool (units,): whether a group would fill most of a small split."""
        return np.asarray((self.sizes > 1) & (self.sizes > too_many(int(self.sizes.sum()))))

    def _stratified(self, is_free: npt.NDArray[np.bool_], share: float) -> npt.NDArray[np.bool_]:
        """Choose units that hold ``share`` of each class, bool (units,).

        Starts with the rarest class, and takes its units with the lowest draws (iterative stratification: Sechidis,
        Tsoumakas,
        Vlahavas, On the stratification of multi-label data, 2011).
        """
        chosen = np.zeros(len(self.sizes), dtype=np.bool_)
        open_ = is_free.copy()
        wanted = self.labels[is_free].sum(axis=0) * share
        while (left := self.labels[open_].sum(axis=0)).any():
            label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
            units = np.flatnonzero(open_ & (self.labels[:, label] > 0))
            for unit in units[np.argsort(self.drawn[units], kind="stable")]:
                open_[unit] = False
                if wanted[label] >= self.labels[unit, label] / 2:
                    chosen[unit] = True
                    wanted -= self.labels[unit]
        return chosen

    def balance(self, dealt: Rows) -> None:
        """Move units between the first split and a test split that is far from its share, in place."""
        total = int(self.sizes.sum())
        # Balancing makes the split of an image depend on the others, so only small collections get it: from 40 images
        # on, chance keeps within this bound.
        slack = 2 + (total / _FEW) ** 2
        split = len(self.shares) - 1
        wanted = self.shares[split] * total
        while (excess := self.sizes[dealt == split].sum() - wanted) > slack:
            members = np.flatnonzero(dealt == split)
            fitting = members[self.sizes[members] <= excess]
            if len(members) < 2 or not len(fitting):
                break
            dealt[fitting[np.argmax(self.drawn[fitting])]] = 0
        while (missing := wanted - self.sizes[dealt == split].sum()) > slack:
            members = np.flatnonzero(dealt == 0)
            fitting = members[self.sizes[members] <= missing]
            if len(members) < 2 or not len(fitting):
                break
            dealt[fitting[np.argmin(self.drawn[fitting])]] = split

    def fill(self, dealt: Rows) -> None:
        """Put every class into the first split, and into all splits if it has enough units; leave no split empty.

        Works in place, as far as the units allow. A class with fewer units stays completely in the first split.
        """
        for label in range(self.labels.shape[1] - 1):
            having = np.flatnonzero(self.labels[:, label])
            if len(having) < len(self.shares) and not self.elsewhere[:, label].any():
                dealt[having] = 0
            elif len(having) and not (dealt[having] == 0).any() and not self.elsewhere[0, label]:
                dealt[max(having.tolist(), key=lambda unit: (-self.sizes[unit], self.drawn[unit]))] = 0
        for split in range(1, len(self.shares)):
            for label in np.argsort((self.labels[:, :-1] > 0).sum(axis=0), kind="stable"):
                holders = np.flatnonzero(self.labels[:, label])
                lacks = not (dealt[holders] == split).any() and not self.elsewhere[split, label]
                if len(holders) >= len(self.shares) and lacks:
                    self._spare(dealt, holders, split)
            if not (dealt == split).any() and not self.elsewhere[split].any():
                self._spare(dealt, np.arange(len(self.labels)), split)

    def _spare(self, dealt: Rows, wanted: Rows, split: int) -> None:
        """Move the smallest ``wanted`` unit that the first split can spare, if there is one, in place."""
        in_first = dealt == 0
        seen = (self.labels[in_first, :-1] > 0).sum(axis=0) + (self.elsewhere[0, :-1] > 0)
        spare = [int(u) for u in wanted if in_first[u] and (seen[self.labels[u, :-1] > 0] > 1).all()]
        if spare and (in_first.sum() > 1 or self.elsewhere[0].any()):
            dealt[min(spare, key=lambda unit: (self.sizes[unit], self.drawn[unit]))] = split
