"""Which image trains, which selects the model, which judges it.

Splits that the data set gives are kept; what it does not give is cut by iterative stratification (Sechidis,
Tsoumakas, Vlahavas: On the stratification of multi-label data, 2011): the rarest class first, each unit to the split
that lacks it most. A unit is a group of images that must stay together, or one image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from visionops.config import SplitConfig
from visionops.data.dataset import Dataset, Split
from visionops.errors import DataError

__all__ = ["assign_splits"]

_LABELLED = (Split.TRAIN, Split.VAL, Split.TEST)


def assign_splits(dataset: Dataset, config: SplitConfig) -> Dataset:
    """Give every labelled image its split; images for batch inference stay as they are.

    - train, val and test are given: kept.
    - train and val: half of val becomes test where val is at least half of what val and test should hold together;
      else test is cut from both.
    - train and test: val is cut from train.
    - nothing, or only train: all three are cut by the shares of ``config``.

    A sentence in ``notes`` says what was done. The result depends on content and seed, not on the order of rows.

    Raises:
        DataError: A split would be empty.
    """
    splits = np.array(dataset.column("split"), dtype=object)
    notes = []
    given = {s for s in _LABELLED if (splits == s.value).any()}
    undecided = splits == Split.NONE.value
    if given and undecided.any():
        splits[undecided] = Split.TRAIN.value
        given.add(Split.TRAIN)
        notes.append(f"{int(undecided.sum())} images had no split, unlike the others: they became train.")
    if given == set(_LABELLED):
        return _with(dataset, splits, notes)
    if not given and not undecided.any():
        raise DataError(f"{dataset.name}: holds no labelled images to split; add images with annotations")
    if given and Split.TRAIN not in given:
        names = " and ".join(sorted(given))
        raise DataError(
            f"{dataset.name}: gives {names} but no train images; add them, or remove the split to have it cut"
        )
    units = _Units.of(dataset)
    if given == {Split.TRAIN, Split.VAL}:
        notes.append(_cut_test(dataset, units, splits, config))
    elif given == {Split.TRAIN, Split.TEST}:
        total = _count(splits, Split.TRAIN) + _count(splits, Split.TEST)
        share = min(config.val * total / _count(splits, Split.TRAIN), 0.5)
        _cut(
            dataset, units, splits, _rows(splits, Split.TRAIN), {Split.TRAIN: 1 - share, Split.VAL: share}, config.seed
        )
        notes.append(
            f"The data set gives train and test but no val: {_count(splits, Split.VAL)} images of train became val, "
            f"{_count(splits, Split.TRAIN)} stayed train."
        )
    else:
        shares = {Split.TRAIN: 1 - config.val - config.test, Split.VAL: config.val, Split.TEST: config.test}
        rows = np.flatnonzero(splits != Split.UNLABELLED.value)
        _cut(dataset, units, splits, rows, shares, config.seed)
        counts = ", ".join(f"{_count(splits, s)} {s.value}" for s in _LABELLED)
        why = "only train" if given else "no split"
        notes.append(f"The data set gives {why}: its {len(rows)} images were split with seed {config.seed}: {counts}.")
    return _with(dataset, splits, notes)


def _with(dataset: Dataset, splits: npt.NDArray[np.object_], notes: list[str]) -> Dataset:
    result = dataset.replace_column("split", splits.tolist())
    return dataclasses.replace(result, notes=(*dataset.notes, *notes, *_unjudged(result, splits)))


def _unjudged(dataset: Dataset, splits: npt.NDArray[np.object_]) -> Iterator[str]:
    """Classes of whole images that val or test lacks. Of boxes, which classes are rare is seen in the evaluation."""
    shown, names = dataset.presence(), dataset.all_class_names
    for split in (Split.VAL, Split.TEST) if dataset.attributes else ():
        lacking = [name for name, any_ in zip(names, shown[splits == split.value].any(axis=0), strict=True) if not any_]
        if lacking:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            yield f"No image of {', '.join(lacking[:5])}{more} is in {split.value}, whose figures leave them out."


def _rows(splits: npt.NDArray[np.object_], split: Split) -> npt.NDArray[np.int64]:
    return np.flatnonzero(splits == split.value)


def _count(splits: npt.NDArray[np.object_], split: Split) -> int:
    return len(_rows(splits, split))


def _cut_test(dataset: Dataset, units: _Units, splits: npt.NDArray[np.object_], config: SplitConfig) -> str:
    train, val = _rows(splits, Split.TRAIN), _rows(splits, Split.VAL)
    total = len(train) + len(val)
    if len(val) >= (config.val + config.test) * total / 2:
        # A group that reaches into train stays in val: test is to hold nothing that was trained on.
        shared = np.isin(units.unit_of[val], units.unit_of[train])
        _cut(dataset, units, splits, val[~shared], {Split.VAL: 0.5, Split.TEST: 0.5}, config.seed)
        return (
            f"The data set gives {len(train)} train and {len(val)} val images but no test: half of val, "
            f"{_count(splits, Split.TEST)} images, became test; {_count(splits, Split.VAL)} stayed val."
        )
    both = np.isin(units.unit_of[val], units.unit_of[train])
    pools = [train[~np.isin(units.unit_of[train], units.unit_of[val])], val[~both]]
    for split, rows in zip((Split.TRAIN, Split.VAL), pools, strict=True):
        if split is Split.TRAIN or len(np.unique(units.unit_of[rows])) > 1:  # the last of val stays there
            _cut(dataset, units, splits, rows, {split: 1 - config.test, Split.TEST: config.test}, config.seed)
    return (
        f"The data set gives {len(train)} train and only {len(val)} val images and no test: "
        f"{_count(splits, Split.TEST)} images were cut from both and became test; "
        f"{_count(splits, Split.TRAIN)} stayed train, {_count(splits, Split.VAL)} stayed val."
    )


@dataclasses.dataclass(frozen=True)
class _Units:
    unit_of: npt.NDArray[np.int64]
    """Image row to unit; units are numbered in an order that the order of rows does not change."""
    labels: npt.NDArray[np.int64]
    """(images, classes + 1): 1 where an image shows a class; the last column: it shows none."""

    @classmethod
    def of(cls, dataset: Dataset) -> _Units:
        keys, hashes, groups = dataset.column("key"), dataset.column("sha256"), dataset.column("group")
        identity = [(digest, key) for digest, key in zip(hashes, keys, strict=True)]
        first: dict[tuple[str, ...], int] = {}
        unit_of = np.zeros(len(keys), dtype=np.int64)
        for row in sorted(range(len(keys)), key=identity.__getitem__):
            unit = (groups[row],) if groups[row] else ("", *identity[row])
            unit_of[row] = first.setdefault(unit, len(first))
        shown = dataset.presence()
        labels = np.column_stack([shown, ~shown.any(axis=1)]).astype(np.int64)
        return cls(unit_of, labels)


def _cut(
    dataset: Dataset,
    units: _Units,
    splits: npt.NDArray[np.object_],
    rows: npt.NDArray[np.int64],
    shares: dict[Split, float],
    seed: int,
) -> None:
    """Deal ``rows`` to the splits of ``shares``, in place."""
    found, inverse = np.unique(units.unit_of[rows], return_inverse=True)
    labels = np.zeros((len(found), units.labels.shape[1]), dtype=np.int64)
    np.add.at(labels, inverse, units.labels[rows])
    sizes = np.bincount(inverse, minlength=len(found))
    targets = list(shares)
    dealt = _stratify(labels, sizes, np.array(list(shares.values())), np.random.default_rng(seed))
    _repair(dealt, labels, sizes, len(targets))
    for i, split in enumerate(targets):
        if not (dealt == i).any():
            raise DataError(
                f"{dataset.name}: {len(rows)} images in {len(found)} groups that must stay together are too few for a "
                f"{split.value} split; add images, or change data.split.val and data.split.test"
            )
    splits[rows] = np.array([s.value for s in targets], dtype=object)[dealt[inverse]]


def _stratify(
    labels: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Split number of each unit; the first split takes ties."""
    shares = shares / shares.sum()
    wanted = [labels[:, c].sum() * shares for c in range(labels.shape[1])]
    room = sizes.sum() * shares
    order = rng.permutation(len(labels))
    dealt = np.full(len(labels), -1, dtype=np.int64)
    left = labels.sum(axis=0)
    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        chosen = order[(dealt[order] < 0) & (labels[order, label] > 0)]
        # Large units first: what is left to deal then evens out.
        for unit in chosen[np.argsort(-labels[chosen, label], kind="stable")]:
            need = wanted[label]
            best = np.flatnonzero(need >= need.max() - 1e-9)
            split = int(best[np.argmax(room[best])])
            dealt[unit] = split
            room[split] -= sizes[unit]
            for c in np.flatnonzero(labels[unit]):
                wanted[c][split] -= labels[unit, c]
        left = labels[dealt < 0].sum(axis=0)
    return dealt


def _repair(
    dealt: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], num_splits: int
) -> None:
    """Every class in the first split (train), and in all if it has a unit for each; no split empty; in place.

    Where that can be had.
    """
    for label in range(labels.shape[1] - 1):
        having = np.flatnonzero(labels[:, label])
        if len(having) and not (dealt[having] == 0).any():
            dealt[_smallest(having.tolist(), sizes)] = 0
    for split in range(1, num_splits):
        for label in np.argsort((labels[:, :-1] > 0).sum(axis=0), kind="stable"):
            holders = np.flatnonzero(labels[:, label])
            if len(holders) >= num_splits and not (dealt[holders] == split).any():
                _spare(dealt, labels, sizes, holders, split)
        if not (dealt == split).any():
            _spare(dealt, labels, sizes, np.arange(len(labels)), split)


def _spare(
    dealt: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
    split: int,
) -> None:
    """Move the smallest ``wanted`` unit that the first split can do without, if there is one; in place."""
    in_first = dealt == 0
    seen = (labels[in_first, :-1] > 0).sum(axis=0)
    spare = [int(u) for u in wanted if in_first[u] and (seen[labels[u, :-1] > 0] > 1).all()]
    if spare and in_first.sum() > 1:
        dealt[_smallest(spare, sizes)] = split


def _smallest(units: Iterable[int], sizes: npt.NDArray[np.int64]) -> int:
    return int(min(units, key=lambda unit: (sizes[unit], unit)))
