"""Apply the rules that assign a split to each image of a data set, and report them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import ADDED, Dataset, Split
from visionops.data.findings import Code, Finding, counted
from visionops.data.settings import SplitConfig
from visionops.data.splitting.pool import Pool
from visionops.data.splitting.units import Rows, Splits, Units
from visionops.errors import DataError

__all__ = ["LABELLED", "Dealer"]

LABELLED = (Split.TRAIN, Split.VAL, Split.TEST)

_MOST_NAMED = 3


@dataclasses.dataclass
class Dealer:
    """Splits of one data set during their assignment."""

    dataset: Dataset
    units: Units
    splits: Splits
    given: set[Split]
    config: SplitConfig
    notes: list[str] = dataclasses.field(default_factory=list)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._labelled = self.splits != Split.UNLABELLED.value
        self._assigned = ~self._labelled
        """Rows whose split is decided."""
        self._out = np.zeros(len(self.splits), dtype=np.bool_)
        self._moved = np.zeros(len(self.splits), dtype=np.bool_)
        """Rows that keep another split than the data set gives."""
        self._keys = self.dataset.column("key")
        self._rows = self.units.rows_of()
        self._given_counts = {split: int((self.splits == split.value).sum()) for split in LABELLED}

    def keep_history(self) -> None:
        """Give the images of earlier versions, and those that look like them, their earlier split."""
        own = self._labelled & (self.units.own != "")
        self._moved |= own & (self.splits != "") & (self.splits != self.units.own)
        self.splits[own] = self.units.own[own]
        self._assigned |= own
        followed = 0
        for homes, rows in zip(self.units.homes, self._rows, strict=True):
            new = rows[~self._assigned[rows]]
            if homes and len(new):
                self._assign(new, homes, "in earlier versions")
                followed += len(new) if len(homes) == 1 else 0
        if own.any() or followed:
            also = (
                f"; {counted(followed, 'image')} more got the split of the images that they look like"
                if followed
                else ""
            )
            self.notes.append(f"{counted(int(own.sum()), 'image')} kept the split of earlier versions{also}.")

    def join_groups(self) -> None:
        """Give images without a split among images that have one the split of their group."""
        undecided = ~self._assigned & (self.splits == "")
        if not self.given or not undecided.any():
            return
        joined = lonely = 0
        for rows in self._rows:
            new = rows[undecided[rows]]
            if not len(new):
                continue
            homes = frozenset(self.splits[rows[self._labelled[rows] & (self.splits[rows] != "")]])
            if homes:
                self._assign(new, homes, "here")
                joined += len(new) if len(homes) == 1 else 0
            elif not self._keys[new[0]].startswith(ADDED):
                self.splits[new] = Split.TRAIN.value
                self._assigned[new] = True
                lonely += len(new)
        if joined or lonely:
            joined_note = f"{joined} went to the split of the images that they look like, " if joined else ""
            self.notes.append(
                f"{counted(joined + lonely, 'image')} had no split, unlike the others: "
                f"{joined_note}{lonely} that look like no other became train."
            )

    def cut(self) -> None:
        """Cut the splits that the data set does not give."""
        note = ""
        if self.given == set(LABELLED):
            pass
        elif self.given == {Split.TRAIN, Split.VAL}:
            note = self._cut_test()
        elif self.given == {Split.TRAIN, Split.TEST}:
            train, test = self._given_counts[Split.TRAIN], self._given_counts[Split.TEST]
            share, before = min(self.config.val * (train + test) / train, 0.5), self._count(Split.VAL)
            self._cut(self._only_in(Split.TRAIN), {Split.TRAIN: 1 - share, Split.VAL: share})
            became = self._count(Split.VAL) - before
            note = (
                f"The data set gives train and test but no val: {became} images of train became val, "
                f"{self._count(Split.TRAIN)} stayed train."
            )
        else:
            rows = np.flatnonzero(~self._assigned & ~self._is_added())
            self._cut(rows, self._shares())
            counts = ", ".join(f"{self._count(s)} {s.value}" for s in LABELLED)
            why = "only train" if self.given else "no split"
            note = (
                f"The data set gives {why}: its {len(rows)} images were split with seed {self.config.seed}: {counts}."
            )
            if not len(rows):
                note = ""
        if note:
            self.notes.append(note)
        self._deal_additions()
        for split in LABELLED:
            if not self._count(split):
                number = len({int(u) for u in self.units.unit_of[self._labelled & ~self._out]})
                raise DataError(
                    f"{self.dataset.name}: {int(self._labelled.sum())} images in {number} groups that must stay "
                    f"together are too few for a {split.value} split; add images, or change data.split.val and "
                    "data.split.test"
                )

    def result(self) -> Dataset:
        """Return the data set with its splits, without images that have none."""
        self._report_moved()
        result = self.dataset.replace_column("split", self.splits.tolist())
        kept = np.flatnonzero(~self._out)
        if len(kept) < len(self.splits):
            result = result.take(kept)
            left_out = [f for f in self.findings if f.code is Code.NEAR_LEAK]
            self.notes += [f"{finding.where}: {finding.message}." for finding in left_out[:_MOST_NAMED]]
            self.notes.append(f"{counted(int(self._out.sum()), 'image')} between two splits left out.")
        unjudged = _missing_class_notes(result, self.splits[kept])
        return dataclasses.replace(
            result,
            notes=(*self.dataset.notes, *self.notes, *unjudged),
            findings=(*self.dataset.findings, *self.findings),
        )

    def _assign(self, rows: Rows, homes: frozenset[str], when: str) -> None:
        """Give ``rows`` the split of the images that they look like; leave them out if these are in several splits."""
        self._assigned[rows] = True
        if len(homes) == 1:
            (home,) = homes
            self._moved[rows] |= (self.splits[rows] != "") & (self.splits[rows] != home)
            self.splits[rows] = home
            return
        self._out[rows] = True
        where = " and ".join(s.value for s in LABELLED if s.value in homes)
        members = tuple(self._keys[row] for row in rows)
        also = f" ({len(members)} images)" if len(members) > 1 else ""
        message = f"looks like images that are in {where} {when}, so any split would leak{also}; left out"
        self.findings.append(Finding.of(Code.NEAR_LEAK, members[0], message, members))

    def _report_moved(self) -> None:
        """Report the images that keep another split than the data set gives."""
        if not self._moved.any():
            return
        keys = tuple(self._keys[row] for row in np.flatnonzero(self._moved))
        message = (
            f"{counted(len(keys), 'image')}: the data set gives another split than earlier versions; the earlier one "
            "is kept, because a model of this use case was trained, selected or tested on it; to start over, rename "
            "the use case"
        )
        self.findings.append(Finding.of(Code.CHANGED_SPLIT, keys[0], message, keys))
        self.notes.append(f"{keys[0]}: {message}.")

    def _is_added(self) -> npt.NDArray[np.bool_]:
        return np.array([key.startswith(ADDED) for key in self._keys], dtype=np.bool_)

    def _deal_additions(self) -> None:
        new = ~self._assigned & self._is_added() & (self.splits == "")
        for rows in self._rows if new.any() else ():
            homes = frozenset(self.splits[rows[self._labelled[rows] & ~new[rows] & ~self._out[rows]]])
            if new[rows].any() and homes:
                self._assign(rows[new[rows]], homes, "here")
        self._cut(np.flatnonzero(new & ~self._assigned), self._shares(), alone=True)
        added = self._is_added() & ~self._out
        if added.any():
            tally = ", ".join(f"{int((added & (self.splits == s.value)).sum())} {s.value}" for s in LABELLED)
            self.notes.append(f"Additions are in {tally}.")

    def _shares(self) -> dict[Split, float]:
        test, val = self.config.test, self.config.val
        return {Split.TRAIN: 1 - val - test, Split.VAL: val, Split.TEST: test}

    def _count(self, split: Split) -> int:
        return int(((self.splits == split.value) & ~self._out).sum())

    def _only_in(self, split: Split) -> Rows:
        """Return rows of ``split`` that may be cut: no image of their unit is elsewhere or has a history."""
        found = [
            rows for rows in self._rows if not self._assigned[rows].any() and (self.splits[rows] == split.value).all()
        ]
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def _cut_test(self) -> str:
        train, val = self._given_counts[Split.TRAIN], self._given_counts[Split.VAL]
        before = self._count(Split.TEST)
        if val >= (self.config.val + self.config.test) * (train + val) / 2:
            # A group with images in train stays in val: test must hold nothing that was trained on.
            self._cut(self._only_in(Split.VAL), {Split.VAL: 0.5, Split.TEST: 0.5})
            known = f", {before} of them since an earlier version" if before else ""
            return (
                f"The data set gives {train} train and {val} val images but no test: half of val becomes test "
                f"({self._count(Split.TEST)} images{known}); {self._count(Split.VAL)} stay val."
            )
        for split in (Split.TRAIN, Split.VAL):
            rows = self._only_in(split)
            if split is Split.TRAIN or len(np.unique(self.units.unit_of[rows])) > 1:  # val keeps its last unit
                self._cut(rows, {split: 1 - self.config.test, Split.TEST: self.config.test})
        return (
            f"The data set gives {train} train and only {val} val images and no test: "
            f"{self._count(Split.TEST) - before} images were cut from both and became test; "
            f"{self._count(Split.TRAIN)} stayed train, {self._count(Split.VAL)} stayed val."
        )

    def _cut(self, rows: Rows, shares: dict[Split, float], *, alone: bool = False) -> None:
        """Distribute ``rows`` over the splits of ``shares``; the first gets what no hash puts into another.

        Args:
            alone: Assign each unit by its hash only: no split is filled up.
        """
        if not len(rows):
            return
        found, inverse = np.unique(self.units.unit_of[rows], return_inverse=True)
        labels = np.zeros((len(found), self.units.labels.shape[1]), dtype=np.int64)
        np.add.at(labels, inverse, self.units.labels[rows])
        kept = ~_mask(rows, len(self.splits)) & ~self._out
        pool = Pool(
            labels=labels,
            sizes=np.bincount(inverse, minlength=len(found)),
            drawn=self.units.drawn[found],
            shares=np.array(list(shares.values())) / sum(shares.values()),
            elsewhere=np.stack([self.units.labels[kept & (self.splits == s.value)].sum(axis=0) for s in shares]),
        )
        if alone:
            dealt = pool.deal_alone()
        else:
            dealt = pool.deal(has_test=Split.TEST in shares)
            if Split.TEST in shares:
                pool.balance(dealt)
            pool.fill(dealt)
        self.splits[rows] = np.array([s.value for s in shares], dtype=object)[dealt[inverse]]
        self._assigned[rows] = True


def _mask(rows: Rows, count: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask


def _missing_class_notes(dataset: Dataset, splits: Splits) -> Iterator[str]:
    """Yield a note on classes of whole images that val or test lacks; for boxes, the evaluation shows rare classes."""
    shown, names = dataset.presence(), dataset.all_class_names
    for split in (Split.VAL, Split.TEST) if dataset.attributes else ():
        lacking = [name for name, any_ in zip(names, shown[splits == split.value].any(axis=0), strict=True) if not any_]
        if lacking:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            yield f"No image of {', '.join(lacking[:5])}{more} is in {split.value}; its metrics do not cover them."
