"""Look at every image and every label before anything is learned from them.

All of each image is decoded, by the decoder that serving uses, so that what passes here cannot fail there. What is
found becomes a `Finding`; the policy says which findings stop the run.

>>> report = validate(dataset, config.validation)
>>> report.counts_by_code()
{<Code.OUT_OF_BOUNDS_BOX: 'out_of_bounds_box'>: 7, <Code.LEAK: 'leak'>: 27}
>>> report.raise_if_stopped()
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from visionops.data.coordinates import suspect_coordinates
from visionops.data.dataset import ADDED, Attribute, Boxes, Dataset, Split
from visionops.data.duplicates import (
    LOOK_SIZE,
    conflicting_copies,
    copies_of_files,
    duplicate_boxes,
    look_alike,
    look_alike_groups,
    sample,
)
from visionops.data.files import file_header
from visionops.data.findings import Code, Finding, Severity, counted
from visionops.data.settings import ValidationPolicy
from visionops.errors import DataError, ImageError, ValidationStopped
from visionops.inference.image import (
    ImageHeader,
    ImageProblem,
    deep_samples,
    load_upright,
    to_eight_bits,
    to_rgb,
    white_level,
)
from visionops.inference.image_types import preferred_suffix, suffixes_of
from visionops.inference.preprocessing_spec import FULL_WHITE

__all__ = [
    "FACTS_SCHEMA",
    "IMBALANCE_RATIO",
    "InspectedImages",
    "Inspection",
    "ValidationReport",
    "clip_boxes",
    "inspect_headers",
    "inspect_images",
    "inspect_shard",
    "judge",
    "judge_shards",
    "same_boxes",
    "validate",
]

IMBALANCE_RATIO = 10.0
"""From how many times more boxes or images in the largest class than in the smallest the imbalance is reported."""

FACTS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("problem", pa.string()),  # a `Code` value; "" when the image can be used
        ("format", pa.string()),  # Pillow's name; "" when unusable
        ("mode", pa.string()),
        ("width", pa.int32()),  # pixels after EXIF rotation; 0 when unusable
        ("height", pa.int32()),
        ("orientation", pa.int8()),
        ("frames", pa.int32()),
        ("bits", pa.int8()),  # per channel
        ("plain", pa.bool_()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("look", pa.binary(LOOK_SIZE * LOOK_SIZE)),  # grey thumbnail; null when unusable
        ("brightness", pa.float32()),  # mean grey value, 0 to 255, by the white level of the data set
        ("peak", pa.int32()),  # largest sample of a file of 16 bits; 0 of others
    ]
)

_INSPECTIONS = pa.schema(
    [
        ("key", pa.string()),
        ("problem", pa.string()),
        ("message", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("brightness", pa.float64()),
        ("peak", pa.int32()),
        ("look", pa.binary(LOOK_SIZE * LOOK_SIZE)),
        ("format", pa.string()),  # this and what follows: null when unusable
        ("mode", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("orientation", pa.int8()),
        ("frames", pa.int32()),
        ("bits", pa.int8()),
    ]
)

_GIVEN = (Split.TRAIN.value, Split.VAL.value, Split.TEST.value)  # in the order of protection
_CHUNK = 16  # images per task: enough to hide the pool's cost, few enough for a smooth progress bar


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
    """What decoding one image told."""

    problem: str = ""
    """A `Code` value; "" when the image can be used."""
    message: str = ""
    """What is wrong and how to mend it, without the place."""
    header: ImageHeader | None = None
    sha256: str = ""
    phash: int = 0
    look: npt.NDArray[np.uint8] | None = None
    """uint8 (16, 16), grey."""
    brightness: float = 0.0
    """Mean grey value, 0 to 255; of 16 bits by the white level of this image alone, as hash and thumbnail are."""
    peak: int = 0
    """Largest sample of a file of 16 bits; 0 of others."""


@dataclasses.dataclass(frozen=True)
class ValidationReport:
    """All that was found; saved as ``report.json``, ``facts.parquet`` and ``card.html``."""

    dataset_name: str
    findings: tuple[Finding, ...]
    counts: dict[str, Any]
    """``images``, ``usable``, ``boxes``, ``splits`` (images per split), ``classes`` (boxes, or images with that label,
    per class and split)."""
    facts: pa.Table
    """One row an image, in the order of the data set; see `FACTS_SCHEMA`."""
    near_groups: tuple[tuple[str, ...], ...] = ()
    """Keys of images that look the same but are not the same file."""
    white: int = FULL_WHITE
    """White level by which 16-bit samples are scaled to 8 bits."""
    card: str = ""
    """An HTML page for people."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop the run."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def verdict(self) -> str:
        """One line for people."""
        if not self.findings:
            return "No finding: every image decodes and every label fits."
        tally = collections.Counter(f.severity for f in self.findings)
        parts = [
            f"{tally[s]} {s}{'s' if tally[s] > 1 and s is not Severity.INFO else ''}" for s in Severity if tally[s]
        ]
        return ("Stopped: " if tally[Severity.ERROR] else "Usable: ") + ", ".join(parts) + "."

    def counts_by_code(self) -> dict[Code, int]:
        """How often each code was found, in the order of `Code`."""
        tally = collections.Counter(f.code for f in self.findings)
        return {code: tally[code] for code in Code if tally[code]}

    def grouped(self) -> list[tuple[Severity, Code, list[Finding]]]:
        """The findings by severity and code: errors first, then in the order of `Code`."""
        groups: dict[tuple[Severity, Code], list[Finding]] = collections.defaultdict(list)
        for finding in self.findings:
            groups[finding.severity, finding.code].append(finding)
        severities, codes = list(Severity), list(Code)
        order = sorted(groups, key=lambda k: (severities.index(k[0]), codes.index(k[1])))
        return [(severity, code, groups[severity, code]) for severity, code in order]

    def summary(self, places: int = 3) -> str:
        """The findings grouped by code, each with its count and its first places: text for a terminal."""
        lines = [self.verdict]
        for severity, code, findings in self.grouped():
            lines.append(f"{severity:<8}{code} x {len(findings)}")
            lines += [f"        {f.where}: {f.message}" for f in findings[:places]]
            if len(findings) > places:
                lines.append(f"        and {len(findings) - places} more")
        return "\n".join(lines)

    def raise_if_stopped(self) -> None:
        """Let the run go on, or not.

        Raises:
            ValidationStopped: There is an error; the message names the first, its place and its mend.
        """
        if not self.errors:
            return
        first = self.errors[0]
        rest = collections.Counter(f.code for f in self.errors[1:])
        more = ", ".join(f"{n} x {code}" for code, n in rest.most_common())
        also = f" (and {len(self.errors) - 1} more: {more}; the validation card shows them all)" if rest else ""
        raise ValidationStopped(f"{first.where}: {first.message}{also}")

    def save(self, folder: Path) -> None:
        """Write ``report.json``, ``facts.parquet`` and ``card.html`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        raw = {
            "dataset_name": self.dataset_name,
            "verdict": self.verdict,
            "counts_by_code": self.counts_by_code(),
            "counts": self.counts,
            "near_groups": self.near_groups,
            "white": self.white,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }
        (folder / "report.json").write_text(json.dumps(raw, indent=1), encoding="utf-8")
        pq.write_table(self.facts, folder / "facts.parquet")
        (folder / "card.html").write_text(self.card, encoding="utf-8", errors="backslashreplace")

    @classmethod
    def load(cls, folder: Path) -> ValidationReport:
        """Read what `save` wrote.

        Raises:
            DataError: A file is missing or is not what `save` writes.
        """
        try:
            raw = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            return cls(
                dataset_name=raw["dataset_name"],
                findings=tuple(Finding.from_dict(f) for f in raw["findings"]),
                counts=raw["counts"],
                facts=pq.read_table(folder / "facts.parquet"),
                near_groups=tuple(tuple(group) for group in raw["near_groups"]),
                white=raw.get("white", FULL_WHITE),  # absent in what earlier versions saved
                card=(folder / "card.html").read_text(encoding="utf-8"),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: not a saved validation report ({error}); run again with --no-cache") from error


def validate(
    dataset: Dataset, policy: ValidationPolicy, progress: Callable[[int], None] | None = None
) -> ValidationReport:
    """Check images, labels and the collection as a whole.

    Args:
        dataset: As the reader made it; its own findings are part of the report.
        progress: Called with the number of images looked at so far.
    """
    return judge(dataset, inspect_images(dataset, policy.max_pixels, progress), policy)


def judge(
    dataset: Dataset,
    inspections: Sequence[Inspection],
    policy: ValidationPolicy,
    fetch: Callable[[Dataset], Dataset] = lambda images: images,
) -> ValidationReport:
    """What images, labels and the collection as a whole come to; no image is read but for the card's pictures.

    Args:
        dataset: As for `validate`.
        inspections: Of `inspect_images`, in row order.
        fetch: Given some of the images, the same with paths of this machine.
    """
    # The card needs the report's type, and this module the card.
    from visionops.data.card import render_card

    white = dataset.white_level or _measured_white(inspections)
    facts = _facts(dataset, inspections, white)
    groups, scenes = _near_groups(dataset, facts, policy.near_duplicate_distance)
    findings = [
        *dataset.findings,
        *_image_findings(dataset, inspections, white),
        *_white_findings(dataset, inspections, white),
        *_box_findings(dataset, facts),
        *_exact_duplicates(dataset, facts),
        *_near_duplicates(dataset, groups),
        *_scenes(dataset, scenes),
        *_collection_findings(dataset, facts, policy),
    ]
    keys = dataset.column("key")
    report = ValidationReport(
        dataset_name=dataset.name,
        findings=tuple(_judged(findings, policy)),
        counts=_counts(dataset, facts),
        facts=facts,
        near_groups=tuple(tuple(keys[row] for row in group) for group in groups),
        white=white,
    )
    shown = dataclasses.replace(dataset, white_level=white)
    return dataclasses.replace(report, card=render_card(shown, report, fetch))


@dataclasses.dataclass(frozen=True)
class InspectedImages:
    """What decoding told of the images of one shard, on its way to where all are judged together."""

    rows: pa.Table
    """A row an image; see `_INSPECTIONS`."""

    def save(self, folder: Path) -> None:
        """Write ``inspected.parquet`` into ``folder``."""
        pq.write_table(self.rows, folder / "inspected.parquet")

    @classmethod
    def load(cls, folder: Path) -> InspectedImages:
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing or is not what `save` writes.
        """
        try:
            return cls(pq.read_table(folder / "inspected.parquet", schema=_INSPECTIONS))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{folder}: no saved inspections ({error}); run again with --no-cache") from error


def inspect_shard(
    dataset: Dataset, policy: ValidationPolicy, progress: Callable[[int], None] | None = None
) -> InspectedImages:
    """`inspect_images` of a part of a data set, for `judge_shards`."""
    rows = []
    for key, seen in zip(dataset.column("key"), inspect_images(dataset, policy.max_pixels, progress), strict=True):
        row = dataclasses.asdict(seen.header) if seen.header else {}
        look = None if seen.look is None else seen.look.tobytes()
        told = {name: getattr(seen, name) for name in ("problem", "message", "sha256", "phash", "brightness", "peak")}
        rows.append({"key": key, **told, "look": look, **row})
    return InspectedImages(pa.Table.from_pylist(rows, schema=_INSPECTIONS))


def judge_shards(
    dataset: Dataset,
    parts: Sequence[InspectedImages],
    policy: ValidationPolicy,
    fetch: Callable[[Dataset], Dataset] = lambda images: images,
) -> ValidationReport:
    """As `judge`, of images that were inspected in shards: the report is that of one machine.

    Args:
        parts: Each image in one of them.

    Raises:
        DataError: An image was not inspected.
    """
    rows = pa.concat_tables(part.rows for part in parts)
    row_of = {key: row for row, key in enumerate(rows["key"].to_pylist())}
    keys = dataset.column("key")
    if lacking := next((key for key in keys if key not in row_of), None):
        raise DataError(f"{dataset.name}: {lacking} is in no shard that was validated; run again with --no-cache")
    rows = rows.take(pa.array([row_of[key] for key in keys], pa.int64()))
    return judge(
        dataset, [_inspection(row) for batch in rows.to_batches(4096) for row in batch.to_pylist()], policy, fetch
    )


def _inspection(row: dict[str, Any]) -> Inspection:
    header = {field.name: row[field.name] for field in dataclasses.fields(ImageHeader)}
    look = None if row["look"] is None else np.frombuffer(row["look"], np.uint8).reshape(LOOK_SIZE, LOOK_SIZE)
    told = {name: row[name] for name in ("problem", "message", "sha256", "phash", "brightness", "peak")}
    return Inspection(**told, look=look, header=None if header["format"] is None else ImageHeader(**header))


def _judged(findings: Iterable[Finding], policy: ValidationPolicy) -> Iterator[Finding]:
    for finding in findings:
        severity = policy.severities.get(finding.code)
        yield dataclasses.replace(finding, severity=severity) if severity else finding


def inspect_images(
    dataset: Dataset, max_pixels: int, progress: Callable[[int], None] | None = None
) -> list[Inspection]:
    """Decode every image in full, on all cores.

    At most one decoded image per thread is in memory.

    Returns:
        In row order.
    """
    paths, hashes = dataset.column("path"), dataset.column("sha256")
    return _on_all_cores(lambda row: _inspect(paths[row], hashes[row], max_pixels), len(paths), progress)


def inspect_headers(dataset: Dataset, progress: Callable[[int], None] | None = None) -> list[Inspection]:
    """Read the header of every image, on all cores: what `inspect_images` gives but for hash, look and brightness.

    Returns:
        In row order.
    """
    keys, paths = dataset.column("key"), dataset.column("path")
    return _on_all_cores(lambda row: _inspect_header(keys[row], paths[row]), len(paths), progress)


def _on_all_cores(
    inspect: Callable[[int], Inspection], count: int, progress: Callable[[int], None] | None
) -> list[Inspection]:
    """Call ``inspect`` for each row, in row order.

    Threads, not processes: Pillow decodes outside the interpreter lock, and threads start at once.
    """
    chunks = [range(i, min(i + _CHUNK, count)) for i in range(0, count, _CHUNK)]
    results: list[Inspection] = []
    with concurrent.futures.ThreadPoolExecutor(_usable_cores()) as pool:
        try:
            for part in pool.map(lambda rows: [inspect(row) for row in rows], chunks):
                results += part
                if progress:
                    progress(len(results))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for a hundred thousand images
    return results


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # a container may use fewer than the machine has
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _inspect(path: str, sha256: str, max_pixels: int) -> Inspection:
    try:
        data = _read(path)
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        message = f"the file {reason}; put it back or remove it from the labels"
        return Inspection(Code.MISSING_IMAGE.value, message)
    sha256 = sha256 or hashlib.sha256(data).hexdigest()
    try:
        header, image = load_upright(data, where="", max_pixels=max_pixels, luminance=True)
        image, peak = _comparable(data, header, image)
    except ImageError as error:
        return Inspection(ImageProblem(error.kind).value, str(error).removeprefix(": "), sha256=sha256)
    phash, look = look_alike(image)
    return Inspection("", "", header, sha256, phash, look, float(look.mean()), peak)


def _inspect_header(key: str, path: str) -> Inspection:
    if not path:
        message = "the file is missing; put it back or remove it from the labels"
        return Inspection(Code.MISSING_IMAGE.value, message)
    try:
        return Inspection(header=file_header(Path(path), key))
    except ImageError as error:
        return Inspection(ImageProblem(error.kind).value, str(error).removeprefix(f"{key}: "))


def _comparable(data: bytes, header: ImageHeader, image: Image.Image) -> tuple[Image.Image, int]:
    """Bring a decoded image into mode L or RGB, for `look_alike`, and find its largest sample of 16 bits.

    Samples of 16 bits are scaled by the white level of this image alone. That of the data set is not known yet, and
    changes when brighter images come, by which an image should still be known again; by the full range, 12 bits would
    leave 16 grey levels. Hashes and correlations do not depend on the scale.
    """
    peak = 0
    try:
        if header.bits > 8:
            samples = deep_samples(data, header, image)
            peak, white = int(samples.max()), white_level(int(samples.max()))
            if samples.ndim == 3 and white != FULL_WHITE:
                return Image.fromarray(to_eight_bits(samples, white)), peak
            image = Image.fromarray(to_rgb(sample(image), white)) if samples.ndim == 2 else image
        return image if image.mode in {"L", "RGB"} else Image.fromarray(to_rgb(sample(image))), peak
    except ValueError as error:  # a mode of a rare type that Pillow cannot convert
        message = f": pixels of type {image.mode} cannot be converted; convert it to RGB"
        raise ImageError(message, ImageProblem.UNSUPPORTED) from error


def _read(path: str) -> bytes:
    if not path:
        raise FileNotFoundError
    return Path(path).read_bytes()


def _measured_white(inspections: Sequence[Inspection]) -> int:
    """Return the white level that holds the brightest sample of all files of 16 bits."""
    return white_level(max((seen.peak for seen in inspections), default=0))


def _facts(dataset: Dataset, inspections: Sequence[Inspection], white: int) -> pa.Table:
    blank = ImageHeader("", "", 0, 0, 1, 0)
    headers = [i.header or blank for i in inspections]
    columns: dict[str, list[Any]] = {
        "key": dataset.column("key"),
        "problem": [i.problem for i in inspections],
        "plain": [i.header.is_plain if i.header else None for i in inspections],
        "sha256": [i.sha256 for i in inspections],
        "phash": [i.phash for i in inspections],
        "look": [None if i.look is None else i.look.tobytes() for i in inspections],
        "brightness": [_brightness(i, white) for i in inspections],
        "peak": [i.peak for i in inspections],
    }
    for name in ("format", "mode", "width", "height", "orientation", "frames", "bits"):
        columns[name] = [getattr(h, name) for h in headers]
    return pa.table({f.name: pa.array(columns[f.name], type=f.type) for f in FACTS_SCHEMA}, schema=FACTS_SCHEMA)


def _brightness(seen: Inspection, white: int) -> float:
    """Return the brightness by the white level of the data set."""
    return min(seen.brightness * white_level(seen.peak) / white, 255.0) if seen.peak else seen.brightness


def _white_findings(dataset: Dataset, inspections: Sequence[Inspection], white: int) -> Iterator[Finding]:
    """Report the used range of 16-bit files, where it is not the whole, or not what most images use."""
    deep = [row for row, seen in enumerate(inspections) if seen.header and seen.header.bits > 8]
    if not deep:
        return
    keys = dataset.column("key")
    brightest = max(deep, key=lambda row: inspections[row].peak)  # of several, the first
    peak = inspections[brightest].peak
    count = f"{len(deep):,} of {counted(dataset.num_images, 'image')}"
    said = f"{count} are 16-bit files" if len(deep) != 1 else f"{count} is a 16-bit file"
    used = f"largest value {peak}"
    usual = white_level(sorted(inspections[row].peak for row in deep)[(len(deep) - 1) * 9 // 10])
    odd = usual < white_level(peak)
    if not odd and white == white_level(peak) == FULL_WHITE:
        return
    if odd:
        used += f" in {keys[brightest]}, while most use {usual.bit_length()} bits"
    elif white_level(peak) != FULL_WHITE:
        said += f" that use{'s' if len(deep) == 1 else ''} {white_level(peak).bit_length()} bits"
    message = f"{said} ({used}): scaled by {white}"
    if dataset.white_level is not None:
        message += ", as data.white_level says"
        if peak > white:
            message += "; what is brighter is clipped"
    elif odd:
        message += "; set data.white_level if that image is an outlier"
    yield Finding.of(Code.WHITE_LEVEL, dataset.name, message, tuple(keys[row] for row in deep))


def _image_findings(dataset: Dataset, inspections: Sequence[Inspection], white: int) -> Iterator[Finding]:
    keys, widths, heights = (dataset.column(c) for c in ("key", "width", "height"))
    known = {key for f in dataset.findings if f.code is Code.MISSING_IMAGE for key in f.images}
    for key, width, height, seen in zip(keys, widths, heights, inspections, strict=True):
        if seen.header is None:
            if seen.problem == Code.MISSING_IMAGE.value and key in known:
                continue  # the reader said so, with the place that names it
            yield Finding.of(Code(seen.problem), key, seen.message, (key,))
            continue
        for code, message in _peculiarities(key, seen.header, white):
            yield Finding.of(code, key, message, (key,))
        if width and (width, height) != (seen.header.width, seen.header.height):
            yield Finding.of(Code.SIZE_MISMATCH, key, _size_message(width, height, seen.header), (key,))


def _peculiarities(key: str, header: ImageHeader, white: int) -> Iterator[tuple[Code, str]]:
    suffix = PurePosixPath(key).suffix.lower()
    usual = suffixes_of(header.format)
    if usual and suffix not in usual:
        wanted = preferred_suffix(header.format)
        yield Code.WRONG_EXTENSION, f"is {header.format} inside; read as such; rename it to *{wanted}"
    if header.mode == "CMYK":
        yield Code.CMYK, "is CMYK; converted to RGB by the decoder, without a colour profile"
    if header.mode in {"P", "PA"} and header.format != "GIF":
        yield Code.PALETTE, "has a colour palette; expanded to RGB by the decoder"
    if header.bits > 8:
        yield Code.SIXTEEN_BIT, f"has 16 bits per channel; scaled to 8 bits ({white} becomes 255) by the decoder"
    if header.orientation != 1:
        size = f"{header.width} x {header.height}"
        yield Code.EXIF_ROTATED, f"EXIF orientation {header.orientation}; turned upright to {size} by the decoder"
    if header.frames > 1:
        yield Code.ANIMATED, f"has {header.frames} frames; only the first is used"


def _size_message(width: int, height: int, header: ImageHeader) -> str:
    real = f"the labels say {width} x {height}, the file is {header.width} x {header.height}"
    if (height, width) == (header.width, header.height):
        return f"{real} once upright; the file counts: check that the boxes were not drawn on the unrotated picture"
    return f"{real}; the file counts, the boxes stay: check that they were not drawn on a resized copy"


def _box_findings(dataset: Dataset, facts: pa.Table) -> Iterator[Finding]:
    """Judged against the real size; boxes of unusable images only against each other."""
    rows, class_ids, boxes = dataset.box_arrays()
    if not len(rows):
        return
    keys, ids, names = dataset.column("key"), dataset.boxes.column("source_id").to_pylist(), dataset.class_names

    def found(code: Code, box: int, message: str) -> Finding:
        key = keys[rows[box]]
        place = f"{key}: annotation {ids[box]}" if ids[box] else f"{key}: box {box}"
        return Finding.of(code, place, message, (key,))

    finite = np.isfinite(boxes).all(axis=1)
    for box in np.flatnonzero(~finite).tolist():
        yield found(Code.BAD_BOX, box, "has a coordinate that is not a number; draw it again or remove it")
    size = np.stack([facts.column("width").to_numpy(), facts.column("height").to_numpy()], axis=1)[rows]
    known = finite & (size[:, 0] > 0)
    if known.any():
        yield from suspect_coordinates(keys, rows[known], boxes[known], size[known])
    clipped = clip_boxes(boxes, size)
    degenerate = known & ((clipped[:, 2:] - clipped[:, :2]) <= 0).any(axis=1)
    for box in np.flatnonzero(degenerate).tolist():
        x1, y1, x2, y2 = boxes[box]
        name = names[class_ids[box]]
        mend = "draw it again or remove it"
        yield found(Code.DEGENERATE_BOX, box, f"{name} ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area inside; {mend}")
    beyond = np.abs(clipped - boxes)
    for box in np.flatnonzero(known & ~degenerate & (beyond > 0).any(axis=1)).tolist():
        side = int(np.argmax(beyond[box]))
        edge = ("left", "upper", "right", "lower")[side]
        message = f"reaches {beyond[box, side]:.4g} px over the {edge} edge; clipped to the image"
        yield found(Code.OUT_OF_BOUNDS_BOX, box, message)
    for box, first in duplicate_boxes(rows, class_ids, boxes):
        yield found(Code.DUPLICATE_BOX, box, f"equals {_name_of(ids, first)} in class and place; only one is kept")


def clip_boxes(xyxy: npt.NDArray[np.float64], sizes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The part of each box that lies inside its image.

    Args:
        xyxy: float64 (M, 4), pixels.
        sizes: Width and height of each box's image, (M, 2).
    """
    return np.asarray(np.clip(xyxy, 0.0, np.concatenate([sizes, sizes], axis=1).astype(np.float64)))


def _name_of(ids: Sequence[str], box: int) -> str:
    return f"annotation {ids[box]}" if ids[box] else f"box {box}"


def _exact_duplicates(dataset: Dataset, facts: pa.Table) -> Iterator[Finding]:
    copies: dict[str, list[int]] = collections.defaultdict(list)
    for row, (sha256, problem) in enumerate(
        zip(*(facts.column(c).to_pylist() for c in ("sha256", "problem")), strict=True)
    ):
        if sha256 and not problem:
            copies[sha256].append(row)
    labels = dataset.boxes_by_image() if dataset.num_images else []
    conflicting = {rows[0]: rows for rows in _conflicting(dataset, facts)}
    for rows in copies.values():
        if disputed := next((conflicting[row] for row in rows if row in conflicting), None):
            keys = tuple(dataset.images.column("key")[row].as_py() for row in disputed)
            message = f"the same file as {_some(keys[1:])}, but {_differing(dataset, disputed)}; all are left out"
            yield Finding.of(Code.CONFLICTING_LABEL, keys[0], f"{message}: correct their labels", keys)
        elif len(rows) > 1:
            yield from _copies_found(dataset, rows, all(same_boxes(labels[rows[0]], labels[r]) for r in rows[1:]))


def same_boxes(first: Boxes, second: Boxes) -> bool:
    """Return whether two images have the same boxes of the same classes, in whatever order."""

    def table(boxes: Boxes) -> npt.NDArray[np.float64]:
        joined = np.column_stack([boxes.class_ids, boxes.xyxy])
        return np.asarray(joined[np.lexsort(joined.T)])

    return len(first.class_ids) == len(second.class_ids) and bool(np.array_equal(table(first), table(second)))


def _copies_found(dataset: Dataset, rows: list[int], same_labels: bool) -> Iterator[Finding]:
    keys, splits = dataset.column("key"), dataset.column("split")
    members = tuple(keys[row] for row in rows)
    others = _some(members[1:])
    unlike = "" if same_labels else "; their boxes differ: check which are right"
    given = [s for s in _GIVEN if s in {splits[row] for row in rows}]
    if len(given) > 1:
        message = f"the same file is in {' and '.join(given)} ({others}); kept in {given[-1]} only{unlike}"
        yield Finding.of(Code.LEAK, members[0], message, members)
    else:
        apart = len({splits[row] for row in rows}) > 1
        kept = "one is for inference only, both are kept" if apart else "only the first is kept"
        yield Finding.of(Code.DUPLICATE_IMAGE, members[0], f"the same file as {others}; {kept}{unlike}", members)


def _conflicting(dataset: Dataset, facts: pa.Table) -> list[list[int]]:
    """Rows of one file with different labels."""
    copies = copies_of_files(facts.column("sha256").to_pylist(), dataset.column("split"))
    return conflicting_copies(copies, dataset.label_array())


def _differing(dataset: Dataset, rows: Sequence[int]) -> str:
    """``hair_color is dark and grey``: the first attribute in which the images differ."""
    for attribute, class_ids in zip(dataset.attributes, dataset.label_array()[list(rows)].T, strict=True):
        names = [attribute.class_names[i] for i in dict.fromkeys(class_ids.tolist()) if i >= 0]
        if len(names) > 1:
            return f"{attribute.name} is {' and '.join(names)}"
    return "their labels are the same"


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _near_groups(dataset: Dataset, facts: pa.Table, distance: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return the rows of images that look the same, and of scenes that are always the same.

    Of copies of one file only the one that stays is looked at.
    """
    splits, looks = dataset.column("split"), facts.column("look").to_pylist()
    conflicting = {rows[0] for rows in _conflicting(dataset, facts)}
    kept = [copies[0] for copies in copies_of_files(facts.column("sha256").to_pylist(), splits)]
    kept = [row for row in kept if row not in conflicting]
    # The unlabelled are never split and never learned from: what they look like matters to nobody.
    rows = sorted(r for r in kept if looks[r] is not None and splits[r] != Split.UNLABELLED.value)
    hashes = facts.column("phash").to_numpy()[rows]
    pictures = np.frombuffer(b"".join(looks[row] for row in rows), dtype=np.uint8).reshape(-1, LOOK_SIZE, LOOK_SIZE)
    groups, scenes = look_alike_groups(hashes, pictures, distance)
    return [[rows[i] for i in group] for group in groups], [[rows[i] for i in group] for group in scenes]


def _scenes(dataset: Dataset, scenes: Sequence[Sequence[int]]) -> Iterator[Finding]:
    keys = dataset.column("key")
    for scene in scenes:
        members = tuple(keys[row] for row in scene)
        message = f"{len(scene)} images look alike (a fixed camera?); too many to be copies, not kept together"
        yield Finding.of(Code.NEAR_DUPLICATE, members[0], message, members)


def _near_duplicates(dataset: Dataset, groups: Sequence[Sequence[int]]) -> Iterator[Finding]:
    keys, splits = dataset.column("key"), dataset.column("split")
    for group in groups:
        members = tuple(keys[row] for row in group)
        unlike = f"; {_differing(dataset, group)}" if conflicting_copies([group], dataset.label_array()) else ""
        first_of = {splits[row]: keys[row] for row in reversed(group) if splits[row] in _GIVEN}
        if len(first_of) > 1:
            where = " and ".join(f"{split} ({first_of[split]})" for split in _GIVEN if split in first_of)
            message = f"{len(group)} images that look the same are in {where}{unlike}; look at them on the card"
            yield Finding.of(Code.NEAR_LEAK, members[0], message, members)
        else:
            message = f"looks the same as {_some(members[1:])}{unlike}; kept together when splits are drawn"
            yield Finding.of(Code.NEAR_DUPLICATE, members[0], message, members)


def _collection_findings(dataset: Dataset, facts: pa.Table, policy: ValidationPolicy) -> Iterator[Finding]:
    usable = [not problem for problem in facts.column("problem").to_pylist()]
    splits = dataset.column("split")
    labelled = [s for s, ok in zip(splits, usable, strict=True) if ok and s != Split.UNLABELLED.value]
    if len(labelled) < policy.min_images:
        message = f"{len(labelled)} usable images, at least {policy.min_images} are needed; add images"
        yield Finding.of(Code.TOO_FEW_IMAGES, dataset.name, message)
    given = [s for s in _GIVEN if s in splits]
    # Declared splits without any row are the reader's to report; here: those that lost all theirs, and a missing train.
    emptied = [s for s in given if s not in labelled]
    if given and Split.TRAIN.value not in given:
        emptied.insert(0, Split.TRAIN.value)
    reported = {f.where.rstrip("/").rpartition("/")[2] for f in dataset.findings if f.code is Code.EMPTY_SPLIT}
    for split in emptied:
        if split not in reported:
            yield Finding.of(
                Code.EMPTY_SPLIT, split, f"no usable image is in {split}; add images or take the split out"
            )
    pairs = zip(dataset.column("key"), splits, strict=True)
    unsplit = tuple(key for key, split in pairs if split == Split.NONE.value and not key.startswith(ADDED))
    if given and unsplit:
        message = (
            f"{counted(len(unsplit), 'image')} without a split among images that have one: each goes where the images "
            "are that it looks like, nowhere if these are in several splits, and else to train; give it a split"
        )
        yield Finding.of(Code.MISSING_SPLIT, unsplit[0], message, unsplit)
    if not dataset.attributes:
        yield from _splits_without_boxes(dataset, [s for s in given if s in labelled])
    taught = Split.TRAIN.value if Split.TRAIN.value in given else None
    if dataset.attributes:
        yield from _label_findings(dataset, facts, policy, taught)
    else:
        yield from _class_findings(dataset, policy, taught)


def _splits_without_boxes(dataset: Dataset, given: Sequence[str]) -> Iterator[Finding]:
    splits = np.array(dataset.column("split"), dtype=object)
    boxes_in = collections.Counter(splits[dataset.box_arrays()[0]].tolist())
    why = {Split.VAL.value: "cannot choose an epoch", Split.TEST.value: "cannot judge a model"}
    for split in given:
        if split in why and dataset.num_boxes and not boxes_in[split]:
            message = (
                f"no image of {split} has an object, so it {why[split]}; move labelled images there, or take the "
                "split out to have one cut from the others"
            )
            yield Finding.of(Code.SPLIT_WITHOUT_BOXES, split, message)


def _label_findings(
    dataset: Dataset, facts: pa.Table, policy: ValidationPolicy, split: str | None
) -> Iterator[Finding]:
    """Of the images that cleaning keeps: what is said of them, and whether it can be learned."""
    splits = np.array(dataset.column("split"), dtype=object)
    kept = np.zeros(dataset.num_images, dtype=bool)
    kept[[copies[0] for copies in copies_of_files(facts.column("sha256").to_pylist(), splits.tolist())]] = True
    kept[[row for rows in _conflicting(dataset, facts) for row in rows]] = False
    kept &= np.array([not problem for problem in facts.column("problem").to_pylist()], dtype=bool)
    kept &= splits != Split.UNLABELLED.value
    taught = kept if split is None else kept & (splits == split)
    place = f"in {split}" if split else "in the whole data set"
    labels = dataset.label_array()
    for attribute, class_ids in zip(dataset.attributes, labels.T, strict=True):
        if missing := int(np.sum(class_ids[kept] < 0)):
            message = f"not known for {missing:,} of {int(kept.sum()):,} images, which do not count for it"
            yield Finding.of(Code.MISSING_LABEL, attribute.name, message)
        counts = np.bincount(class_ids[taught & (class_ids >= 0)], minlength=len(attribute.class_names)).tolist()
        yield from _attribute_findings(attribute, counts, place, policy)


def _attribute_findings(
    attribute: Attribute, counts: list[int], place: str, policy: ValidationPolicy
) -> Iterator[Finding]:
    present = [i for i, count in enumerate(counts) if count]
    names = attribute.class_names
    if len(present) < 2:
        what = f"every image is {names[present[0]]}" if present else "no image has a label"
        message = f"{what} {place}, which teaches nothing; add images of another class, or take the label out"
        yield Finding.of(Code.SINGLE_VALUE, attribute.name, message)
        return
    for name, count in zip(names, counts, strict=True):
        where = f"{attribute.name} {name}"
        if count < policy.min_instances:
            have = counted(count, "image")
            message = f"{have} {place}, at least {policy.min_instances} are needed; add some, or join classes"
            yield Finding.of(Code.TOO_FEW_INSTANCES, where, message)
        elif count == 1:
            message = f"1 image {place}, which cannot both teach and judge; add images, or join classes"
            yield Finding.of(Code.SINGLE_IMAGE, where, message)
    most, least = max(present, key=counts.__getitem__), min(present, key=counts.__getitem__)
    if counts[most] >= IMBALANCE_RATIO * counts[least]:
        message = (
            f"{counted(counts[most], 'image')} against {counts[least]:,} of {names[least]} {place}, a ratio of "
            f"{counts[most] / counts[least]:.0f} to 1; add images of the rare class, or set training.balance"
        )
        yield Finding.of(Code.CLASS_IMBALANCE, f"{attribute.name} {names[most]}", message)


def _class_findings(dataset: Dataset, policy: ValidationPolicy, split: str | None) -> Iterator[Finding]:
    rows, class_ids, _ = dataset.box_arrays()
    if split is not None:
        class_ids = class_ids[np.array(dataset.column("split"), dtype=object)[rows] == split]
    counts = np.bincount(class_ids, minlength=len(dataset.class_names))
    place = f"in {split}" if split else "in the whole data set"
    for name, count in zip(dataset.class_names, counts.tolist(), strict=True):
        if count < policy.min_instances:
            mend = "label more, or leave the class out with data.categories"
            message = f"{count} boxes {place}, at least {policy.min_instances} are needed; {mend}"
            yield Finding.of(Code.TOO_FEW_INSTANCES, f"class {name}", message)
    present = np.flatnonzero(counts)
    if len(present) > 1:
        most, least = present[np.argmax(counts[present])], present[np.argmin(counts[present])]
        ratio = counts[most] / counts[least]
        if ratio >= IMBALANCE_RATIO:
            names = dataset.class_names
            message = (
                f"{counts[most]} boxes against {counts[least]} of {names[least]} {place}, a ratio of {ratio:.0f} to 1; "
                "label more of the rare class, and read its metrics apart"
            )
            yield Finding.of(Code.CLASS_IMBALANCE, f"class {names[most]}", message)


def _counts(dataset: Dataset, facts: pa.Table) -> dict[str, Any]:
    splits = np.array(dataset.column("split"), dtype=object)
    pairs = np.argwhere(dataset.presence()) if dataset.attributes else np.column_stack(dataset.box_arrays()[:2])
    per_split = {
        split: np.bincount(pairs[splits[pairs[:, 0]] == split, 1], minlength=len(dataset.all_class_names)).tolist()
        for split in dataset.split_counts()
    }
    return {
        "images": dataset.num_images,
        "usable": facts.column("problem").to_pylist().count(""),
        "boxes": dataset.num_boxes,
        "splits": dataset.split_counts(),
        "classes": {
            name: {split: counts[index] for split, counts in per_split.items()}
            for index, name in enumerate(dataset.all_class_names)
        },
    }
