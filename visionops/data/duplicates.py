"""Find images that look the same, with a perceptual hash and an exact search for close hashes that scales.

The hash is a pHash (the signs of the 64 lowest frequencies of a 32 x 32 grey thumbnail against their median). A
gradient hash does not work: on the flat steel textures of NEU-DET it called thousands of different plates equal. Parts
in front of a fixed camera share their low frequencies, so a close hash is only a candidate: a pair counts if the 16 x
16 thumbnails also correlate. The hash of a resized copy may differ by more bits, so thumbnails that are almost equal
count whatever the hash.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from visionops.data.dataset import Split

__all__ = [
    "LOOK_SIZE",
    "MANY",
    "MIN_CORRELATION",
    "SAMPLE_SIZE",
    "conflicting_copies",
    "copies_of_files",
    "duplicate_boxes",
    "look_alike",
    "look_alike_groups",
    "most_similar",
    "near_duplicate_groups",
    "perceptual_hash",
    "sample",
    "too_many",
]

LOOK_SIZE = 16
"""Side of the grey thumbnail that confirms candidates, in pixels."""
MANY = 20
"""Number of images above which a group of look-alikes may be a constant scene."""
SAMPLE_SIZE = 128
"""Side to which images of rare modes are sampled first, in pixels, so that converting them is cheap."""
MIN_CORRELATION = 0.97
"""Minimum correlation of near duplicates. Copies have 0.98 or more, different parts of one kind up to 0.96."""

_CLOSER = (MIN_CORRELATION, 0.985, 0.993, 0.997, 0.999)
_SURE_CORRELATION = 0.99
"""Correlation from which a pair counts without a close hash. The hashes of 8 to 42 % of real photographs at half their
size differ by more than four bits, while their thumbnails correlate by 0.98 to 0.999."""
_HASH_SIDE = 32
_COSINES = np.cos(np.pi / _HASH_SIDE * np.outer(np.arange(8), np.arange(_HASH_SIDE) + 0.5)).astype(np.float32)
_LOOK_COSINES = np.cos(np.pi / LOOK_SIZE * np.outer(np.arange(8), np.arange(LOOK_SIZE) + 0.5)).astype(np.float32)
_LOOK_COSINES /= np.linalg.norm(_LOOK_COSINES, axis=1, keepdims=True)
_LOW_FREQUENCIES = np.kron(_LOOK_COSINES, _LOOK_COSINES).T  # (256, 64), orthonormal
_PAIRS = np.kron(np.eye(LOOK_SIZE, dtype=np.float32), np.full((1, 2), 0.5, dtype=np.float32))  # averages two by two
_FLAT = 1.0  # standard deviation of grey values below which an image has no structure to compare
_Rows = npt.NDArray[np.int64]

_REDUCED_SIZE = 256  # larger images are averaged down by an integer factor, to at least this side
_BLOCK = 1 << 17  # pairs of hashes compared at once: 1 MB, which stays in the cache
_SIDE = 512  # rows of one group compared at once with eight times as many others: 8 MB
_CHECKED_AT_ONCE = 1 << 11  # pairs of thumbnails compared at once: 4 MB


def look_alike(image: Image.Image) -> tuple[int, npt.NDArray[np.uint8]]:
    """Return the features that find near duplicates.

    Args:
        image: Mode L or RGB, any size.

    Returns:
        The perceptual hash, 0 to 2^64 - 1, and the thumbnail, uint8 (16, 16), grey.
    """
    # Averaged, not sampled: sampled pixels of grass or sandpaper differ at each size.
    factor = max(image.size) // _REDUCED_SIZE
    reduced = image.reduce(factor) if factor > 1 else image
    grey = reduced if reduced.mode == "L" else reduced.convert("L")
    # Pillow and numpy only: OpenCV's thread overhead exceeds the arithmetic here.
    small = np.asarray(grey.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX), dtype=np.float32)
    frequencies = (_COSINES @ small @ _COSINES.T).ravel()
    # The first is the mean brightness, which is not shape. The 32nd of the other 63 is their median.
    bits = frequencies > np.sort(frequencies[1:])[31]
    thumbnail = _PAIRS @ small @ _PAIRS.T
    return int.from_bytes(np.packbits(bits).tobytes(), "big"), thumbnail.astype(np.uint8)


def perceptual_hash(rgb: npt.NDArray[np.uint8]) -> int:
    """Return a 64-bit perceptual hash: close (in Hamming distance) for images that look alike.

    Args:
        rgb: uint8 (H, W, 3), any size.

    Returns:
        0 to 2^64 - 1.
    """
    return look_alike(Image.fromarray(rgb))[0]


def sample(image: Image.Image) -> Image.Image:
    """Return a large image as `SAMPLE_SIZE` squared pixels sampled at even distances; return a small one unchanged.

    Converting or averaging the result is cheap, whatever the size of the image.
    """
    if max(image.size) <= SAMPLE_SIZE * 2:
        return image
    sampled = image.resize((SAMPLE_SIZE, SAMPLE_SIZE), Image.Resampling.NEAREST)
    sampled.info = image.info
    return sampled


# If several splits hold the same file, the last of these keeps it, so that evaluation data stays complete.
_PROTECTION = (Split.NONE.value, Split.TRAIN.value, Split.VAL.value, Split.TEST.value)


def copies_of_files(sha256: Sequence[str], splits: Sequence[str]) -> list[list[int]]:
    """Return groups of rows with identical bytes, the one to keep first: from test, then val, then train.

    Within a split the first row is kept. Images for inference only (split ``unlabelled``) are compared among
    themselves.

    Args:
        sha256: SHA-256 of each row; "" if unknown, which equals no other.
        splits: Split of each row.

    Returns:
        One list per file, single ones included, in the order of their first rows.
    """
    copies: dict[tuple[str, bool | int], list[int]] = collections.defaultdict(list)
    for row, (digest, split) in enumerate(zip(sha256, splits, strict=True)):
        copies[(digest, split == Split.UNLABELLED.value) if digest else ("", row)].append(row)
    rank = {split: -index for index, split in enumerate(_PROTECTION)}
    return [sorted(rows, key=lambda row: (rank.get(splits[row], 1), row)) for rows in copies.values()]


def conflicting_copies(copies: Iterable[Sequence[int]], labels: npt.NDArray[np.int32]) -> list[list[int]]:
    """Return the groups in which two images have different classes of one attribute.

    Args:
        copies: Groups of rows, as `copies_of_files` returns them.
        labels: Class ids, int32 (images, attributes); -1 if unknown, which contradicts nothing.
    """
    found = []
    for rows in copies:
        known = [column[column >= 0] for column in labels[list(rows)].T] if len(rows) > 1 else []
        if any((column != column[0]).any() for column in known if len(column)):
            found.append(list(rows))
    return found


def duplicate_boxes(
    rows: npt.NDArray[np.int64], class_ids: npt.NDArray[np.int32], boxes: npt.NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Return boxes that repeat an earlier box of the same image in class and position.

    Args:
        rows: Image row of each box, int64 (M,).
        class_ids: int32 (M,).
        boxes: xyxy, float64 (M, 4).

    Returns:
        Pairs of a box and the first equal one.
    """
    if not len(rows):
        return []
    table = np.column_stack([rows, class_ids, boxes])
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    origin = first[inverse.reshape(-1)]
    return [(int(box), int(origin[box])) for box in np.flatnonzero(origin != np.arange(len(rows)))]


def near_duplicate_groups(
    hashes: npt.NDArray[np.uint64],
    distance: int,
    looks: npt.NDArray[np.uint8] | None = None,
    correlation: float = MIN_CORRELATION,
) -> list[list[int]]:
    """Return the connected components of the graph in which two close rows are linked.

    Args:
        hashes: uint64 (N,).
        distance: Largest Hamming distance, 0 to 64.
        looks: Thumbnails, uint8 (N, 16, 16); if given, a pair must also correlate by ``correlation``, and images
            without any structure (blank frames) match no other.
        correlation: Minimum correlation of the thumbnails of a pair, -1 to 1.

    Returns:
        Groups of at least two rows, each ascending, ordered by their first row.
    """
    forest = _Forest(len(hashes))
    rows = np.arange(len(hashes))
    signatures: npt.NDArray[np.float32] | None = None
    if looks is not None:
        signatures, structured = _signatures(looks)
        rows = np.flatnonzero(structured)

    def link(first: _Rows, second: _Rows) -> None:
        for start in range(0, len(first), _CHECKED_AT_ONCE):
            part = slice(start, start + _CHECKED_AT_ONCE)
            left, right = forest.separate(first[part], second[part])
            if signatures is not None:
                alike = np.einsum("nk,nk->n", signatures[left], signatures[right]) >= correlation
                left, right = left[alike], right[alike]
            forest.join(left, right)

    def finish() -> list[list[int]]:
        if signatures is not None:
            _join_sure(signatures, rows, max(correlation, _SURE_CORRELATION), forest)
        return forest.groups()

    def compare(first: _Rows, second: _Rows) -> None:
        """Link all close pairs of a row of ``first`` (N,), one group, and a row of ``second`` (M,)."""
        second = second[forest.roots(second) != forest.roots(first[:1])]
        close = np.bitwise_count(hashes[first, None] ^ hashes[second]) <= distance
        if signatures is not None:
            close &= signatures[first] @ signatures[second].T >= correlation
        i, j = np.nonzero(close)
        forest.join(*forest.separate(first[i], second[j]))

    # Only rows with equal hash and thumbnail are interchangeable: a row that merely correlates with the first row of
    # its hash may still be the only link to a third one.
    original = _first_equal(hashes[rows], None if looks is None else looks[rows])
    repeats = original != np.arange(len(rows))
    forest.join(rows[original[repeats]], rows[repeats])
    rows = rows[~repeats]
    # Link equal hashes first, each with its first occurrence: a fixed camera makes thousands of them.
    _, first_of, kind = np.unique(hashes[rows], return_index=True, return_inverse=True)
    link(rows[first_of[kind]], rows)
    chunks = distance + 1
    if len(rows) < 2048 or chunks > 8:  # chunks of fewer than 8 bits do not narrow the search
        for first, second in _compare_all(hashes[rows], distance):
            link(rows[first], rows[second])
        return finish()
    # Pigeonhole: hashes that differ in at most d bits agree in at least one of d + 1 chunks.
    edges = np.linspace(0, 64, chunks + 1).astype(int)
    for low, high in itertools.pairwise(edges.tolist()):
        keys = (hashes[rows] >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        buckets = _Buckets.of(keys, forest.roots(rows))
        members = rows[buckets.members]
        for run, partners in buckets.large():
            for i in range(run.start, run.stop, _SIDE):
                for j in range(partners.start, partners.stop, _SIDE * 8):
                    compare(members[i : min(i + _SIDE, run.stop)], members[j : min(j + _SIDE * 8, partners.stop)])
        for first, second in buckets.small():
            near = np.bitwise_count(hashes[members[first]] ^ hashes[members[second]]) <= distance
            link(members[first[near]], members[second[near]])
    return finish()


def _join_sure(signatures: npt.NDArray[np.float32], rows: _Rows, correlation: float, forest: _Forest) -> None:
    """Join all pairs of ``rows`` whose signatures reach this correlation.

    All pairs are compared, first by the 64 lowest frequencies of the thumbnails, whose distance is a lower bound of the
    distance of the pair.
    """
    low = signatures[rows] @ _LOW_FREQUENCIES
    half = (low**2).sum(axis=1) / 2
    for i in range(0, len(rows), _SIDE):
        for j in range(i, len(rows), _SIDE * 8):
            one, other = slice(i, i + _SIDE), slice(j, j + _SIDE * 8)
            near = low[one] @ low[other].T >= half[one, None] + half[other] - (1 - correlation + 1e-5)
            near &= forest.roots(rows[one])[:, None] != forest.roots(rows[other])
            first, second = np.nonzero(near)
            first, second = rows[one][first], rows[other][second]
            for start in range(0, len(first), _CHECKED_AT_ONCE):
                a, b = (side[start : start + _CHECKED_AT_ONCE] for side in (first, second))
                sure = np.einsum("nk,nk->n", signatures[a], signatures[b]) >= correlation
                forest.join(a[sure], b[sure])


def too_many(images: int) -> int:
    """Return the size above which a group of look-alikes is too large for a collection of this many images."""
    return max(MANY, images // 20)


def most_similar(looks: Sequence[bytes], others: Sequence[bytes]) -> list[int]:
    """Return for each thumbnail the index in ``others`` with the highest correlation.

    Args:
        looks: Thumbnails, uint8 (16, 16), as bytes.
        others: At least one thumbnail.
    """
    ours, theirs = (
        _signatures(np.frombuffer(b"".join(side), np.uint8).reshape(-1, LOOK_SIZE, LOOK_SIZE))[0]
        for side in (looks, others)
    )
    found: list[int] = []
    for start in range(0, len(ours), _SIDE):
        found += (ours[start : start + _SIDE] @ theirs.T).argmax(axis=1).tolist()
    return found


def look_alike_groups(
    hashes: npt.NDArray[np.uint64], looks: npt.NDArray[np.uint8], distance: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the groups that must stay in one split, and the groups that are too large for that.

    In front of a fixed camera all images look alike. If large groups hold more than half of the images, they are
    divided by increasing correlations. A group that stays large is a scene, not copies of one picture.

    Args:
        hashes: uint64 (N,).
        looks: Thumbnails, uint8 (N, 16, 16).
        distance: Largest Hamming distance, 0 to 64.

    Returns:
        Groups to keep together, and scenes, both in the form of `near_duplicate_groups`.
    """
    limit = too_many(len(hashes))
    small: list[list[int]] = []
    large = [list(range(len(hashes)))]
    for correlation in _CLOSER:
        cut = [
            [group[i] for i in part]
            for group in large
            for part in near_duplicate_groups(hashes[group], distance, looks[group], correlation)
        ]
        small += [group for group in cut if len(group) <= limit]
        large = [group for group in cut if len(group) > limit]
        if sum(map(len, large)) * 2 <= len(hashes):
            return sorted(small + large), []
    return sorted(small), sorted(large)


def _first_equal(hashes: npt.NDArray[np.uint64], looks: npt.NDArray[np.uint8] | None) -> _Rows:
    """Return for each row the first row with the same hash and thumbnail, int64 (N,)."""
    if looks is None:
        table = hashes[:, None].view(np.uint8)
    else:
        table = np.hstack([hashes[:, None].view(np.uint8), looks.reshape(len(looks), LOOK_SIZE * LOOK_SIZE)])
    whole = np.ascontiguousarray(table).view(np.dtype((np.void, table.shape[1]))).ravel()
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


def _signatures(looks: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return thumbnails (N, 16, 16) as unit vectors (N, 256) for correlations, and which have structure."""
    flat = looks.reshape(len(looks), LOOK_SIZE * LOOK_SIZE).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.maximum(norms, 1e-6)
    return flat, norms[:, 0] > _FLAT * LOOK_SIZE


def _compare_all(hashes: npt.NDArray[np.uint64], distance: int) -> Iterator[tuple[_Rows, _Rows]]:
    for start in range(0, len(hashes), step := max(_BLOCK // max(len(hashes), 1), 1)):
        differing = np.bitwise_count(hashes[start : start + step, None] ^ hashes[None, start:])
        first, second = np.nonzero(differing <= distance)
        ahead = second > first
        yield first[ahead] + start, second[ahead] + start


@dataclasses.dataclass(frozen=True, slots=True)
class _Buckets:
    """Rows sorted by key, and by group within a key.

    Rows of one group need no comparison: each is compared with the rows after its group in the bucket of its key.
    """

    members: _Rows
    """int64 (M,), row at each position."""
    begins: _Rows
    """int64 (M,), first position to compare each one with."""
    ends: _Rows
    """int64 (M,), position after the last one to compare with."""

    @classmethod
    def of(cls, keys: npt.NDArray[np.uint64], groups: _Rows) -> _Buckets:
        members = np.lexsort((groups, keys))
        new_key = np.diff(keys[members], prepend=~keys[members[:1]]) != 0
        new_run = new_key | (np.diff(groups[members], prepend=-1) != 0)
        ends, begins = (np.append(np.flatnonzero(new)[1:], len(keys))[np.cumsum(new) - 1] for new in (new_key, new_run))
        return cls(members, begins, ends)

    def _is_large(self) -> npt.NDArray[np.bool_]:
        """Return which positions are in a run with so many pairs that one matrix product is cheaper."""
        starts = np.flatnonzero(np.diff(self.begins, prepend=-1))
        length = np.repeat(np.diff(starts, append=len(self.members)), np.diff(starts, append=len(self.members)))
        return np.asarray((length >= 16) & (length * (self.ends - self.begins) >= _SIDE * _SIDE))

    def large(self) -> Iterator[tuple[slice, slice]]:
        """Yield the positions of a run of one group, and the positions to compare it with."""
        is_large = self._is_large()
        for start in np.flatnonzero(is_large & (np.diff(self.begins, prepend=-1) != 0)).tolist():
            begin, end = int(self.begins[start]), int(self.ends[start])
            yield slice(start, begin), slice(begin, end)

    def small(self) -> Iterator[tuple[_Rows, _Rows]]:
        """Yield all other pairs of positions, in blocks."""
        partners = np.where(self._is_large(), 0, self.ends - self.begins)
        cumulative = np.cumsum(partners)
        start = 0
        while start < len(partners):
            done = cumulative[start - 1] if start else 0
            stop = max(int(np.searchsorted(cumulative, done + _BLOCK, side="right")), start + 1)
            counts = partners[start:stop]
            left = np.repeat(np.arange(start, stop), counts)
            offset = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
            yield left, self.begins[left] + offset
            start = stop


class _Forest:
    """Union-find over rows; the smallest row of a group is its root."""

    def __init__(self, count: int) -> None:
        self._root = np.arange(count)
        self._flat = True

    def roots(self, rows: _Rows) -> _Rows:
        """Return the smallest row in the group of each of ``rows``."""
        while not self._flat:
            deeper = self._root[self._root]
            self._flat = np.array_equal(deeper, self._root)
            self._root = deeper
        return np.asarray(self._root[rows])

    def separate(self, first: _Rows, second: _Rows) -> tuple[_Rows, _Rows]:
        """Return the pairs that are not in one group yet."""
        new = self.roots(first) != self.roots(second)
        return first[new], second[new]

    def join(self, first: _Rows, second: _Rows) -> None:
        # Thousands of pairs may link the same two groups: join each two groups once.
        ends = self.roots(first) * len(self._root) + self.roots(second)
        for pair in np.unique(ends).tolist():
            low, high = sorted(self._find(end) for end in divmod(pair, len(self._root)))
            self._root[high] = low
            self._flat = False

    def groups(self) -> list[list[int]]:
        roots = self.roots(np.arange(len(self._root)))
        order = np.argsort(roots, kind="stable")
        cuts = np.flatnonzero(np.diff(roots[order])) + 1
        return [part.tolist() for part in np.split(order, cuts) if len(part) > 1]

    def _find(self, row: int) -> int:
        while (root := int(self._root[row])) != row:
            self._root[row] = self._root[root]
            row = root
        return row
