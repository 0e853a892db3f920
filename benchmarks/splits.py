"""Check that splits stay stable in random histories of a data set that is split again after every change.

    python -m benchmarks.splits --histories 1000

Each history starts with a small data set and changes it ten times: images are added (new pictures, and more frames of
existing pictures), removed, restored, relabelled, re-encoded, moved to additions, merged with a lot that has copies, or
get their own splits. After each change the data set is split with the history of earlier versions, as `--pipeline
training` does. A violation is an image in test that looks like one in train or val, of this version or an earlier one,
with any file name, encoding or label. Three consecutive pictures are a short film: the middle one looks like both ends,
which do not look like each other.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import ADDED, Dataset
from visionops.data.duplicates import MIN_CORRELATION, look_alike_groups
from visionops.data.history import SplitHistory
from visionops.data.layers import Attribute
from visionops.data.settings import SplitConfig
from visionops.data.splitting.assignment import assign_splits
from visionops.errors import DataError

__all__ = ["Outcome", "simulate"]

_CLASSES = ("ok", "pit", "scratch")
_DISTANCE = 4


@dataclasses.dataclass(frozen=True)
class _Image:
    history: int
    picture: int
    """Number of the scene: two images of one picture look the same to people."""
    copy: int
    """0 for the original; others are re-encoded or resized copies or more frames."""
    label: int
    split: str = ""
    is_addition: bool = False

    @property
    def key(self) -> str:
        return f"{ADDED if self.is_addition else ''}{_CLASSES[self.label]}/{self.picture}-{self.copy}.png"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.history} {self.picture} {self.copy}".encode()).hexdigest()

    @property
    def film(self) -> int:
        """Number of the film, which has three consecutive pictures."""
        return self.picture // 3

    def look(self) -> tuple[int, bytes]:
        """Return the picture's hash and thumbnail, with the noise of an encoder or a sensor."""
        of_film, of_copy = np.random.default_rng([7, self.film]), np.random.default_rng([self.picture, self.copy])
        first, second = of_film.normal(size=(2, 16, 16))
        angle = np.radians(12 * (self.picture % 3))
        pixels = 128 + 35 * (np.cos(angle) * first + np.sin(angle) * second) + of_copy.integers(-2, 3, (16, 16))
        phash = int(of_film.integers(0, 2**63))
        for bit in of_copy.integers(0, 63, 2 if self.copy else 0):
            phash ^= 1 << int(bit)
        return phash, np.clip(np.round(pixels), 0, 255).astype(np.uint8).tobytes()


@dataclasses.dataclass
class Outcome:
    """Counts of one history."""

    versions: int = 0
    refused: int = 0
    """Versions that had too few images to split."""
    violations: int = 0
    dealt: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Images by first split, except those whose split comes from the data set."""
    left_out: int = 0


def simulate(seed: int, changes: int = 10) -> Outcome:
    """Run one history, which depends only on the seed."""
    rng = np.random.default_rng([17, seed])
    config = SplitConfig(seed=int(rng.integers(0, 3)))
    images = {image.key: image for image in (_new(rng, seed, number) for number in range(int(rng.integers(30, 70))))}
    removed: list[_Image] = []
    next_picture = len(images)
    history, outcome = SplitHistory.empty(), Outcome()
    learned: dict[str, _Image] = {}  # all images ever in train or val, by hash
    seen: set[str] = set()
    for version in range(changes + 1):
        if version:
            next_picture = _change(rng, images, removed, next_picture)
        dataset = _dataset(list(images.values()))
        try:
            split = assign_splits(dataset, config, history, distance=_DISTANCE)
        except DataError:
            outcome.refused += 1
            continue
        outcome.versions += 1
        outcome.left_out += dataset.num_images - split.num_images
        found = [(images[key], where) for key, where in zip(split.column("key"), split.column("split"), strict=True)]
        outcome.dealt.update(where for image, where in found if image.sha256 not in seen and not image.split)
        seen |= {image.sha256 for image, _ in found}
        learned |= {image.sha256: image for image, where in found if where in {"train", "val"}}
        outcome.violations += _like_any([i for i, where in found if where == "test"], list(learned.values()))
        history = history.merged(SplitHistory.of(split, dataset.column("sha256")))
    return outcome


def _like_any(test: list[_Image], learned: list[_Image]) -> int:
    """Count the images of ``test`` that look like one of ``learned``, by comparing all pairs."""
    if not test or not learned:
        return 0
    looks = [[image.look() for image in images] for images in (test, learned)]
    hashes = [np.array([phash for phash, _ in side], dtype=np.uint64) for side in looks]
    flat = [np.frombuffer(b"".join(look for _, look in side), np.uint8).reshape(len(side), -1) for side in looks]
    scaled = [side - side.mean(axis=1, keepdims=True) for side in flat]
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in scaled]
    close = np.bitwise_count(hashes[0][:, None] ^ hashes[1]) <= _DISTANCE
    return int((close & (unit[0] @ unit[1].T >= MIN_CORRELATION)).any(axis=1).sum())


def _new(rng: np.random.Generator, history: int, picture: int, *, is_addition: bool = False) -> _Image:
    return _Image(history, picture, 0, int(rng.choice(3, p=[0.6, 0.3, 0.1])), is_addition=is_addition)


def _change(rng: np.random.Generator, images: dict[str, _Image], removed: list[_Image], next_picture: int) -> int:
    """Change ``images`` in one random way, in place; return the number of the next new picture."""
    keys = sorted(images)
    some = [images[key] for key in rng.choice(keys, min(len(keys), int(rng.integers(1, 9))), replace=False)]
    kind = rng.choice(["add", "frames", "remove", "return", "relabel", "re-encode", "additions", "merge", "splits"])
    new: list[_Image] = []
    if kind in {"add", "additions", "merge"}:
        count = int(rng.integers(1, 15))
        new = [_new(rng, some[0].history, next_picture + i, is_addition=kind == "additions") for i in range(count)]
        next_picture += count
    if kind in {"frames", "merge", "additions"}:
        filed = kind == "additions"
        new += [dataclasses.replace(i, copy=int(rng.integers(1, 10**6)), split="", is_addition=filed) for i in some]
    if kind == "return":
        new += [removed.pop() for _ in range(min(len(removed), 5))]
    if kind == "remove":
        removed += some
    elif kind == "re-encode":
        new = [dataclasses.replace(image, copy=int(rng.integers(1, 10**6))) for image in some]
    elif kind == "relabel":
        new = [dataclasses.replace(image, label=(image.label + 1) % 3) for image in some]
    elif kind == "splits":  # exported with the tool's own splits, each film in one of them
        some = list(images.values())
        dealt = rng.choice(["train", "val", "test"], next_picture)
        new = [dataclasses.replace(image, split=str(dealt[image.film])) for image in some]
    if kind in {"remove", "re-encode", "relabel", "splits"}:
        for image in some:
            del images[image.key]
    images |= {image.key: image for image in new}
    return next_picture


def _dataset(images: list[_Image]) -> Dataset:
    """Return the clean data set, without duplicate files and with similar images in one group."""
    by_hash = {image.sha256: image for image in reversed(images)}
    kept = sorted(by_hash.values(), key=lambda image: (image.is_addition, image.key))
    looks = [image.look() for image in kept]
    hashes = np.array([phash for phash, _ in looks], dtype=np.uint64)
    pictures: npt.NDArray[np.uint8] = np.frombuffer(b"".join(look for _, look in looks), np.uint8).reshape(-1, 16, 16)
    groups = [""] * len(kept)
    for group in look_alike_groups(hashes, pictures, _DISTANCE)[0]:
        for row in group:
            groups[row] = f"alike:{kept[group[0]].key}"
    columns = {
        "key": [image.key for image in kept],
        "sha256": [image.sha256 for image in kept],
        "split": [image.split for image in kept],
        "group": groups,
        "phash": hashes,
        "look": [look for _, look in looks],
    }
    label = Attribute("class", _CLASSES)
    return Dataset.from_columns(
        "made-up", (), columns, {}, attributes=(label,), labels={"class": [image.label for image in kept]}
    )


def main() -> None:
    """Run the histories and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=10)
    arguments = parser.parse_args()
    outcomes = [simulate(seed, arguments.changes) for seed in range(arguments.histories)]
    dealt = sum((outcome.dealt for outcome in outcomes), collections.Counter())
    for name, value in (
        ("histories", len(outcomes)),
        ("versions split", sum(o.versions for o in outcomes)),
        ("versions too small to split", sum(o.refused for o in outcomes)),
        ("violations", sum(o.violations for o in outcomes)),
        ("images left out", sum(o.left_out for o in outcomes)),
        *((f"share of images dealt to {split}", f"{dealt[split] / dealt.total():.3f}") for split in sorted(dealt)),
    ):
        print(f"{name:<36}{value}")


if __name__ == "__main__":
    main()
