"""Record the split of each image over all versions of a data set.

An evaluation is only valid on images that no model in the lineage was trained or selected on. So each bundle carries
the splits of every image that it, or a version before it, has seen, and the next version is split by them. Besides the
SHA-256 of each image its appearance is stored (a perceptual hash and a thumbnail of 256 bytes), so that an image is
recognized when it returns re-encoded or resized, even if the original file is gone.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.dataset import Dataset, Split
from visionops.data.duplicates import LOOK_SIZE, MANY, most_similar, near_duplicate_groups
from visionops.errors import DataError

__all__ = ["HISTORY_SCHEMA", "SPLITS_FILE", "RecalledSplits", "SplitHistory"]

HISTORY_SCHEMA = pa.schema(
    [
        ("sha256", pa.binary(32)),  # of the encoded bytes; unique, ascending
        ("split", pa.string()),  # train, val or test; "" for an image that was checked and left out
        ("phash", pa.uint64()),  # null, like the look, if the image was never decoded
        ("look", pa.binary(LOOK_SIZE * LOOK_SIZE)),  # uint8 (16, 16), grey
    ]
)

_RANK = {Split.TRAIN.value: 0, Split.VAL.value: 1, Split.TEST.value: 2, "": 3}
"""Priority where two lineages differ: an image that was trained on counts as trained on."""
_AS_BRIGHT = 4.0
"""Maximum mean difference of two thumbnails, in grey levels of 255, for one image to be a copy of the other."""
SPLITS_FILE = "splits.parquet"
"""File name of a history in a bundle and in an artifact store."""


@dataclasses.dataclass(frozen=True)
class RecalledSplits:
    """Splits and groups that the history has for each row of a data set."""

    own: list[str]
    """Split assigned to this very file; "" for none."""
    homes: list[frozenset[str]]
    """Splits assigned to it and to images that look like it."""
    group: list[str]
    """Group in the data set, merged where images look alike through an image that is gone."""


@dataclasses.dataclass(frozen=True)
class SplitHistory:
    """Splits of images, over all versions up to one."""

    rows: pa.Table
    """One row per image; see `HISTORY_SCHEMA`."""

    @classmethod
    def empty(cls) -> SplitHistory:
        """Return the history before the first version."""
        return cls(HISTORY_SCHEMA.empty_table())

    @classmethod
    def of(cls, dataset: Dataset, left_out: Iterable[str] = ()) -> SplitHistory:
        """Return the history of one version.

        Args:
            dataset: Data set with splits; images for batch inference are not part of the history.
            left_out: SHA-256, lower-case hex, of images that were checked but are in no split.
        """
        splits = dataset.column("split")
        rows = [row for row, split in enumerate(splits) if split != Split.UNLABELLED.value]
        hashes, hashed, looks = (dataset.column(name) for name in ("sha256", "phash", "look"))
        found = {bytes.fromhex(hashes[row]): (splits[row], hashed[row], looks[row]) for row in rows if hashes[row]}
        for digest in filter(None, left_out):
            found.setdefault(bytes.fromhex(digest), ("", None, None))
        return cls._from(found)

    def merged(self, *others: SplitHistory) -> SplitHistory:
        """Merge histories; for an image in two splits the one nearest to training counts."""
        found: dict[bytes, tuple[str, int | None, bytes | None]] = {}
        for history in (self, *others):
            for row in history.rows.to_pylist():
                digest, entry = row["sha256"], (row["split"], row["phash"], row["look"])
                known = found.get(digest)
                if known is None or _RANK[entry[0]] < _RANK[known[0]]:
                    look = entry[1:] if entry[2] is not None or known is None else known[1:]
                    found[digest] = (entry[0], *look)
        return self._from(found)

    @classmethod
    def _from(cls, found: dict[bytes, tuple[str, int | None, bytes | None]]) -> SplitHistory:
        order = sorted(found)
        columns = [order, *([found[digest][i] for digest in order] for i in range(3))]
        arrays = [pa.array(c, type=field.type) for c, field in zip(columns, HISTORY_SCHEMA, strict=True)]
        return cls(pa.table(arrays, schema=HISTORY_SCHEMA))

    @property
    def num_images(self) -> int:
        """Number of images, including those that were left out."""
        return int(self.rows.num_rows)

    def counts(self) -> dict[str, int]:
        """Return the images per split, in the order train, val, test; "" for those left out."""
        tally = collections.Counter(self.rows.column("split").to_pylist())
        return {split: tally[split] for split in _RANK if tally[split]}

    def recall(self, dataset: Dataset, distance: int) -> RecalledSplits:
        """Return what the history knows of each image of ``dataset``.

        Args:
            distance: Maximum Hamming distance of the perceptual hashes of look-alikes.
        """
        group = dataset.column("group")
        if not self.num_images:
            return RecalledSplits([""] * len(group), [frozenset()] * len(group), group)
        own = self._splits_of(dataset)
        homes = [{split} - {""} for split in own]
        names = _Names(group)
        splits = self.rows.column("split").to_pylist()
        ours, theirs = dataset.column("look"), self.rows.column("look").to_pylist()
        for rows, gone, is_large in self._alike(dataset, distance):
            known = [row for row in rows if own[row]]
            dealt = [*(own[row] for row in known), *(splits[index] for index in gone)]
            if not dealt:
                continue
            if is_large:
                # In front of a fixed camera all images look alike: each follows its most similar image.
                new = [row for row in rows if not own[row]]
                before = [*(ours[row] for row in known), *(theirs[index] for index in gone)]
                for row, nearest in zip(new, most_similar([ours[row] for row in new], before), strict=True):
                    homes[row] |= {dealt[nearest]}
                continue
            names.join(rows)
            for row in rows:
                homes[row] |= set(dealt)
        return RecalledSplits(own, list(map(frozenset, homes)), names.result())

    def learned_from(self, dataset: Dataset, distance: int) -> npt.NDArray[np.bool_]:
        """Return which images of ``dataset``, or images that look like them, are in train or val, bool (images,)."""
        learned = {Split.TRAIN.value, Split.VAL.value}
        return np.array([bool(homes & learned) for homes in self.recall(dataset, distance).homes], dtype=np.bool_)

    def has_seen(self, dataset: Dataset, distance: int) -> npt.NDArray[np.bool_]:
        """Return which images of ``dataset`` are in the history, or are copies of one that is, bool (images,).

        A copy is re-encoded or resized: it looks the same and has the same brightness. The same part in other light is
        not a copy, and images of a constant scene are not copies of each other.
        """
        seen = set(self.rows.column("sha256").to_pylist())
        known = np.array([bool(d) and bytes.fromhex(d) in seen for d in dataset.column("sha256")], dtype=np.bool_)
        ours, theirs = dataset.column("look"), self.rows.column("look")
        for rows, gone, is_large in self._alike(dataset, distance):
            if is_large or not gone:
                continue
            before = np.stack([_pixels(theirs[index].as_py()) for index in gone])
            for row in rows:
                known[row] |= bool((np.abs(before - _pixels(ours[row])).mean(axis=1) <= _AS_BRIGHT).any())
        return known

    def save(self, folder: Path) -> None:
        """Write `SPLITS_FILE` into ``folder``; the same rows give the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.rows, folder / SPLITS_FILE)

    @classmethod
    def load(cls, folder: Path) -> SplitHistory:
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing, or has other columns.
        """
        path = folder / SPLITS_FILE
        try:
            return cls(pq.read_table(path).cast(HISTORY_SCHEMA))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{path}: not a history of splits ({error}); train again") from error

    def _splits_of(self, dataset: Dataset) -> list[str]:
        digests, splits = (self.rows.column(name).to_pylist() for name in ("sha256", "split"))
        known = dict(zip(digests, splits, strict=True))
        pairs = zip(dataset.column("sha256"), dataset.column("split"), strict=True)
        return [
            known.get(bytes.fromhex(digest), "") if digest and split != Split.UNLABELLED.value else ""
            for digest, split in pairs
        ]

    def _alike(self, dataset: Dataset, distance: int) -> Iterator[tuple[list[int], list[int], bool]]:
        """Yield rows that look alike, the history rows that look like them, and whether there are too many of these.

        History rows are those in a split that are not rows of ``dataset``. A group does not depend on the number of
        other rows.
        """
        splits, looks = dataset.column("split"), dataset.column("look")
        rows = [r for r, look in enumerate(looks) if look is not None and splits[r] != Split.UNLABELLED.value]
        if not rows:
            return
        digests = dataset.column("sha256")
        present = {bytes.fromhex(digests[row]) for row in rows if digests[row]}
        ours = self.rows.to_pylist()
        gone = [
            index
            for index, row in enumerate(ours)
            if row["split"] and row["look"] is not None and row["sha256"] not in present
        ]
        hashed = dataset.column("phash")
        hashes = np.array([*(hashed[r] for r in rows), *(ours[i]["phash"] for i in gone)], dtype=np.uint64)
        pictures = b"".join([*(looks[r] for r in rows), *(ours[i]["look"] for i in gone)])
        shaped = np.frombuffer(pictures, dtype=np.uint8).reshape(-1, LOOK_SIZE, LOOK_SIZE)
        for members in near_duplicate_groups(hashes, distance, shaped):
            here = [rows[m] for m in members if m < len(rows)]
            if here:
                yield here, [gone[m - len(rows)] for m in members if m >= len(rows)], len(members) > MANY


def _pixels(look: bytes) -> npt.NDArray[np.int16]:
    return np.frombuffer(look, dtype=np.uint8).astype(np.int16)


class _Names:
    """Named groups of rows, which can be merged."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._rows: dict[str, list[int]] = collections.defaultdict(list)
        for row, name in enumerate(names):
            if name:
                self._rows[name].append(row)

    def join(self, rows: Sequence[int]) -> None:
        """Merge all of ``rows``, and the groups that contain one of them, into one group."""
        touched = sorted({self._names[row] for row in rows} - {""})
        if len(rows) < 2 or (len(touched) == 1 and all(self._names[row] for row in rows)):
            return
        name = touched[0] if touched else f"alike:row {rows[0]}"
        members = sorted({*rows, *(row for other in touched for row in self._rows[other])})
        for other in touched:
            del self._rows[other]
        self._rows[name] = members
        for row in members:
            self._names[row] = name

    def result(self) -> list[str]:
        """Return the name of each row's group; "" for none."""
        return self._names
