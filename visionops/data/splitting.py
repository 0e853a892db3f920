"""Which image trains, which selects the model, which judges it.

A split is for life. Splits that the data set gives are kept. Whether any other image is in test follows from a hash of
its content, whatever else is in the data set, in which order, or under which label; val takes of each class its share
of what is left, by the same hash. What an earlier version dealt stays where it was (`SplitHistory`): no image judges a
model whose lineage was trained or selected on it. A group of images that must stay together is dealt as one.

Dealing each image by itself cannot balance test as a draw over all of them would: its shares vary as those of coin
tosses do. Images are moved, those first whose hash lies nearest to the border, only where a split would be left without
a class, and where a few images in all would leave test far from its share.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import ADDED, Dataset, Split
from visionops.data.duplicates import too_many
from visionops.data.findings import Code, Finding, counted
from visionops.data.history import SplitHistory
from visionops.data.settings import SplitConfig
from visionops.errors import DataError

__all__ = ["assign_splits"]

_LABELLED = (Split.TRAIN, Split.VAL, Split.TEST)
_FEW = 20
"""A collection of so many images is balanced by hand; of twice as many, hardly."""
_NEAR_DISTANCE = 4
_MOST_NAMED = 3

_Splits = npt.NDArray[np.object_]
_Rows = npt.NDArray[np.int64]


def assign_splits(
    dataset: Dataset, config: SplitConfig, history: SplitHistory | None = None, *, distance: int = _NEAR_DISTANCE
) -> Dataset:
    """Return the data set with a split for every labelled image; images for batch inference stay as they are.

    In this order:

    - An image that an earlier version dealt keeps that split, whatever the data set gives now.
    - An image that looks like such images goes where they are. Where they are in several splits, it is left out.
    - A split that the data set gives is kept. Where it gives train and val only, half of val becomes test if val is at
      least half of what val and test should hold together, else test is cut from both. Where it gives train and test
      only, val is cut from train. Where it gives only train, or nothing, all three are cut by the shares of ``config``.
    - An image without a split among images that have one goes where its group is, nowhere if its group is in several
      splits, and to train if it has no group; an addition without a group is dealt by the shares of ``config``.

    The result depends on content and seed, not on the order of rows. ``notes`` say in sentences what was done,
    ``findings`` name the images that are left out or keep another split than the data set gives.

    Args:
        history: What earlier versions dealt.
        distance: Largest Hamming distance of the perceptual hashes of look-alikes, as in the validation policy.

    Raises:
        DataError: A split would be empty.
    """
    splits = np.array(dataset.column("split"), dtype=object)
    labelled = splits != Split.UNLABELLED.value
    if not labelled.any():
        raise DataError(f"{dataset.name}: holds no labelled images to split; add images with annotations")
    given = {s for s in _LABELLED if (splits == s.value).any()}
    if given and Split.TRAIN not in given:
        names = " and ".join(sorted(given))
        raise DataError(
            f"{dataset.name}: gives {names} but no train images; add them, or remove the split to have it cut"
        )
    units = _Units.of(dataset, config.seed, history, distance)
    dealer = _Dealer(dataset, units, splits.copy(), given, config)
    dealer.keep_history()
    dealer.join_groups()
    dealer.cut()
    return dealer.result()


@dataclasses.dataclass(frozen=True)
class _Units:
    """Images that stay together."""

    unit_of: _Rows
    """int64 (images,); units are numbered in an order that the order of rows does not change."""
    labels: npt.NDArray[np.int64]
    """(images, classes + 1): 1 where an image shows a class; the last column: it shows none."""
    drawn: npt.NDArray[np.float64]
    """float64 (units,): a hash of each unit's content, even over 0 to 1."""
    own: _Splits
    """The split that an earlier version dealt to this very file, (images,); "" for none."""
    homes: tuple[frozenset[str], ...]
    """Of each unit: the splits to which earlier versions dealt its images, or images that look like them."""

    @classmethod
    def of(cls, dataset: Dataset, seed: int, history: SplitHistory | None, distance: int) -> _Units:
        keys, hashes, groups = dataset.column("key"), dataset.column("sha256"), dataset.column("group")
        recalled = (history or SplitHistory.empty()).recall(dataset, distance)
        identity = [(digest or key, key) for digest, key in zip(hashes, keys, strict=True)]
        first: dict[tuple[str, ...], int] = {}
        unit_of = np.zeros(len(keys), dtype=np.int64)
        names: list[str] = []
        # A group is dealt by its first member. Names count up: later frames, and additions, do not move the group.
        for row in sorted(range(len(keys)), key=lambda row: (keys[row].startswith(ADDED), keys[row])):
            together, group = recalled.group[row], groups[row]
            unit = (together,) if together else ("", *identity[row])
            unit_of[row] = first.setdefault(unit, len(first))
            if unit_of[row] == len(names):  # a group that a reader names is dealt by its name: frames may come and go
                is_named = group and not group.startswith("alike:") and together == group
                names.append(f"group {group}" if is_named else identity[row][0])
        homes: list[set[str]] = [set() for _ in first]
        for row, number in enumerate(unit_of.tolist()):
            homes[number] |= recalled.homes[row]
        shown = dataset.presence()
        return cls(
            unit_of,
            np.column_stack([shown, ~shown.any(axis=1)]).astype(np.int64),
            np.array([_draw(seed, name) for name in names]),
            np.array(recalled.own, dtype=object),
            tuple(map(frozenset, homes)),
        )

    def rows_of(self) -> list[_Rows]:
        """The rows of each unit."""
        order = np.argsort(self.unit_of, kind="stable")
        return np.split(order, np.searchsorted(self.unit_of[order], np.arange(1, len(self.drawn))))


def _draw(seed: int, name: str) -> float:
    return int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:13], 16) / 16**13


@dataclasses.dataclass
class _Dealer:
    """The splits of one data set while they are dealt."""

    dataset: Dataset
    units: _Units
    splits: _Splits
    given: set[Split]
    config: SplitConfig
    notes: list[str] = dataclasses.field(default_factory=list)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._labelled = self.splits != Split.UNLABELLED.value
        self._settled = ~self._labelled
        """Rows whose split is decided."""
        self._out = np.zeros(len(self.splits), dtype=np.bool_)
        self._moved = np.zeros(len(self.splits), dtype=np.bool_)
        """Rows that keep another split than the data set gives."""
        self._keys = self.dataset.column("key")
        self._rows = self.units.rows_of()
        self._given_counts = {split: int((self.splits == split.value).sum()) for split in _LABELLED}

    def keep_history(self) -> None:
        """Give the images of earlier versions, and those that look like them, the split they had."""
        own = self._labelled & (self.units.own != "")
        self._moved |= own & (self.splits != "") & (self.splits != self.units.own)
        self.splits[own] = self.units.own[own]
        self._settled |= own
        followed = 0
        for homes, rows in zip(self.units.homes, self._rows, strict=True):
            new = rows[~self._settled[rows]]
            if homes and len(new):
                self._settle(new, homes, "in earlier versions")
                followed += len(new) if len(homes) == 1 else 0
        if own.any() or followed:
            also = (
                f"; {counted(followed, 'image')} more went where the images were that they look like"
                if followed
                else ""
            )
            self.notes.append(f"{counted(int(own.sum()), 'image')} kept the split of earlier versions{also}.")

    def join_groups(self) -> None:
        """Give images without a split among images that have one the split of their group."""
        undecided = ~self._settled & (self.splits == "")
        if not self.given or not undecided.any():
            return
        joined = lonely = 0
        for rows in self._rows:
            new = rows[undecided[rows]]
            if not len(new):
                continue
            homes = frozenset(self.splits[rows[self._labelled[rows] & (self.splits[rows] != "")]])
            if homes:
                self._settle(new, homes, "here")
                joined += len(new) if len(homes) == 1 else 0
            elif not self._keys[new[0]].startswith(ADDED):
                self.splits[new] = Split.TRAIN.value
                self._settled[new] = True
                lonely += len(new)
        if joined or lonely:
            joined_note = f"{joined} went to the split of the images that they look like, " if joined else ""
            self.notes.append(
                f"{counted(joined + lonely, 'image')} had no split, unlike the others: "
                f"{joined_note}{lonely} that look like none became train."
            )

    def cut(self) -> None:
        """Cut the splits that the data set does not give."""
        note = ""
        if self.given == set(_LABELLED):
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
            rows = np.flatnonzero(~self._settled & ~self._is_added())
            self._cut(rows, self._shares())
            counts = ", ".join(f"{self._count(s)} {s.value}" for s in _LABELLED)
            why = "only train" if self.given else "no split"
            note = (
                f"The data set gives {why}: its {len(rows)} images were split with seed {self.config.seed}: {counts}."
            )
            if not len(rows):
                note = ""
        if note:
            self.notes.append(note)
        self._deal_additions()
        for split in _LABELLED:
            if not self._count(split):
                number = len({int(u) for u in self.units.unit_of[self._labelled & ~self._out]})
                raise DataError(
                    f"{self.dataset.name}: {int(self._labelled.sum())} images in {number} groups that must stay "
                    f"together are too few for a {split.value} split; add images, or change data.split.val and "
                    "data.split.test"
                )

    def result(self) -> Dataset:
        """Return the data set with its splits, without what has none."""
        self._report_moved()
        result = self.dataset.replace_column("split", self.splits.tolist())
        kept = np.flatnonzero(~self._out)
        if len(kept) < len(self.splits):
            result = result.take(kept)
            left_out = [f for f in self.findings if f.code is Code.NEAR_LEAK]
            self.notes += [f"{finding.where}: {finding.message}." for finding in left_out[:_MOST_NAMED]]
            self.notes.append(f"{counted(int(self._out.sum()), 'image')} between two splits left out.")
        unjudged = _unjudged(result, self.splits[kept])
        return dataclasses.replace(
            result,
            notes=(*self.dataset.notes, *self.notes, *unjudged),
            findings=(*self.dataset.findings, *self.findings),
        )

    def _settle(self, rows: _Rows, homes: frozenset[str], when: str) -> None:
        """Put ``rows`` where the images are that they look like; nowhere if these are in several splits."""
        self._settled[rows] = True
        if len(homes) == 1:
            (home,) = homes
            self._moved[rows] |= (self.splits[rows] != "") & (self.splits[rows] != home)
            self.splits[rows] = home
            return
        self._out[rows] = True
        where = " and ".join(s.value for s in _LABELLED if s.value in homes)
        members = tuple(self._keys[row] for row in rows)
        also = f" ({len(members)} images)" if len(members) > 1 else ""
        message = f"looks like images that are in {where} {when}, so no split is honest for it{also}; left out"
        self.findings.append(Finding.of(Code.NEAR_LEAK, members[0], message, members))

    def _report_moved(self) -> None:
        """Say which images keep another split than the data set gives them."""
        if not self._moved.any():
            return
        keys = tuple(self._keys[row] for row in np.flatnonzero(self._moved))
        message = (
            f"{counted(len(keys), 'image')}: given another split than in earlier versions, which stands: a model of "
            "this use case was trained, selected or judged on them; use another name to begin anew"
        )
        self.findings.append(Finding.of(Code.CHANGED_SPLIT, keys[0], message, keys))
        self.notes.append(f"{keys[0]}: {message}.")

    def _is_added(self) -> npt.NDArray[np.bool_]:
        return np.array([key.startswith(ADDED) for key in self._keys], dtype=np.bool_)

    def _deal_additions(self) -> None:
        new = ~self._settled & self._is_added() & (self.splits == "")
        for rows in self._rows if new.any() else ():
            homes = frozenset(self.splits[rows[self._labelled[rows] & ~new[rows] & ~self._out[rows]]])
            if new[rows].any() and homes:
                self._settle(rows[new[rows]], homes, "here")
        self._cut(np.flatnonzero(new & ~self._settled), self._shares(), alone=True)
        added = self._is_added() & ~self._out
        if added.any():
            tally = ", ".join(f"{int((added & (self.splits == s.value)).sum())} {s.value}" for s in _LABELLED)
            self.notes.append(f"Additions are in {tally}.")

    def _shares(self) -> dict[Split, float]:
        test, val = self.config.test, self.config.val
        return {Split.TRAIN: 1 - val - test, Split.VAL: val, Split.TEST: test}

    def _count(self, split: Split) -> int:
        return int(((self.splits == split.value) & ~self._out).sum())

    def _only_in(self, split: Split) -> _Rows:
        """Rows of ``split`` that are free to be cut: no image of their unit is elsewhere or has a history."""
        found = [
            rows for rows in self._rows if not self._settled[rows].any() and (self.splits[rows] == split.value).all()
        ]
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def _cut_test(self) -> str:
        train, val = self._given_counts[Split.TRAIN], self._given_counts[Split.VAL]
        before = self._count(Split.TEST)
        if val >= (self.config.val + self.config.test) * (train + val) / 2:
            # A group that reaches into train stays in val: test is to hold nothing that was trained on.
            self._cut(self._only_in(Split.VAL), {Split.VAL: 0.5, Split.TEST: 0.5})
            return (
                f"The data set gives {train} train and {val} val images but no test: half of val, "
                f"{self._count(Split.TEST) - before} images, became test; {self._count(Split.VAL)} stayed val."
            )
        for split in (Split.TRAIN, Split.VAL):
            rows = self._only_in(split)
            if split is Split.TRAIN or len(np.unique(self.units.unit_of[rows])) > 1:  # the last of val stays there
                self._cut(rows, {split: 1 - self.config.test, Split.TEST: self.config.test})
        return (
            f"The data set gives {train} train and only {val} val images and no test: "
            f"{self._count(Split.TEST) - before} images were cut from both and became test; "
            f"{self._count(Split.TRAIN)} stayed train, {self._count(Split.VAL)} stayed val."
        )

    def _cut(self, rows: _Rows, shares: dict[Split, float], *, alone: bool = False) -> None:
        """Deal ``rows`` to the splits of ``shares``; what its hash does not give to another goes to the first.

        Args:
            alone: Each unit by its hash and nothing else: no split is filled up.
        """
        if not len(rows):
            return
        found, inverse = np.unique(self.units.unit_of[rows], return_inverse=True)
        labels = np.zeros((len(found), self.units.labels.shape[1]), dtype=np.int64)
        np.add.at(labels, inverse, self.units.labels[rows])
        kept = ~_mask(rows, len(self.splits)) & ~self._out
        pool = _Pool(
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
        self._settled[rows] = True


def _mask(rows: _Rows, count: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask


@dataclasses.dataclass(frozen=True)
class _Pool:
    """Units that are dealt to several splits, of which the first takes what no other does."""

    labels: npt.NDArray[np.int64]
    """(units, classes + 1): images of the unit that show a class; the last column: that show none."""
    sizes: npt.NDArray[np.int64]
    """(units,), images."""
    drawn: npt.NDArray[np.float64]
    """(units,), see `_Units`."""
    shares: npt.NDArray[np.float64]
    """(splits,), their sum is 1."""
    elsewhere: npt.NDArray[np.int64]
    """(splits, classes + 1): images that the splits hold already."""

    def deal(self, *, has_test: bool) -> _Rows:
        """Return the split number of each unit: those that draw lowest are in test, the lowest of the others in val.

        Test depends on the draw alone, so that no image comes to it or leaves it because of others. Val holds of each
        class its share of what is left.
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

    def deal_alone(self) -> _Rows:
        """Return the split number of each unit by its draw alone, the last split lowest."""
        borders = np.cumsum(self.shares[::-1])[:-1]
        dealt = len(self.shares) - 1 - np.searchsorted(borders, self.drawn, side="right")
        return np.where(self._is_large, 0, dealt)

    @property
    def _is_large(self) -> npt.NDArray[np.bool_]:
        """Bool (units,): a group that would be most of a small split."""
        return np.asarray((self.sizes > 1) & (self.sizes > too_many(int(self.sizes.sum()))))

    def _stratified(self, is_free: npt.NDArray[np.bool_], share: float) -> npt.NDArray[np.bool_]:
        """Choose units that hold ``share`` of each class, bool (units,).

        The rarest class first, and of its units those that draw lowest (iterative stratification: Sechidis, Tsoumakas,
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

    def balance(self, dealt: _Rows) -> None:
        """Move units between the first split and a test split that strays from its share; in place."""
        total = int(self.sizes.sum())
        # Balancing makes the split of an image depend on the others, so that it is for collections that need it: from
        # 40 images on, chance keeps within this bound.
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

    def fill(self, dealt: _Rows) -> None:
        """Put every class into the first split, and into all if it has a unit for each; no split empty; in place.

        As far as the units allow. A class with fewer units stays in the first split as a whole.
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

    def _spare(self, dealt: _Rows, wanted: _Rows, split: int) -> None:
        """Move the smallest ``wanted`` unit that the first split can do without, if there is one; in place."""
        in_first = dealt == 0
        seen = (self.labels[in_first, :-1] > 0).sum(axis=0) + (self.elsewhere[0, :-1] > 0)
        spare = [int(u) for u in wanted if in_first[u] and (seen[self.labels[u, :-1] > 0] > 1).all()]
        if spare and (in_first.sum() > 1 or self.elsewhere[0].any()):
            dealt[min(spare, key=lambda unit: (self.sizes[unit], self.drawn[unit]))] = split


def _unjudged(dataset: Dataset, splits: _Splits) -> Iterator[str]:
    """Name the classes of whole images that val or test lacks; of boxes, the evaluation shows which are rare."""
    shown, names = dataset.presence(), dataset.all_class_names
    for split in (Split.VAL, Split.TEST) if dataset.attributes else ():
        lacking = [name for name, any_ in zip(names, shown[splits == split.value].any(axis=0), strict=True) if not any_]
        if lacking:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            yield f"No image of {', '.join(lacking[:5])}{more} is in {split.value}, whose figures leave them out."
