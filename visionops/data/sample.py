"""The rendered sample: brushed-metal surfaces with four kinds of defect, in the VISION layout.

Needs no data and no network, so that a newcomer sees a trained model in minutes and a test has images whose truth
is known to the pixel. A surface is lit from one side; a defect is a depth map, a change of reflectance and a tint,
and the light makes its edges bright or dark. Boxes are measured on what was drawn, not taken from what was asked.

>>> render_sample(SampleSource(kind="sample", images=160), Path("sample"))
>>> sorted(p.name for p in Path("sample/Surface").iterdir())
['inference', 'train', 'val']
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from visionops.data.files import describe_os_error
from visionops.data.settings import SampleSource
from visionops.errors import DataError

__all__ = ["PRODUCT", "RENDERER_VERSION", "Defect", "Surface", "render_sample", "render_surface"]

RENDERER_VERSION: int = 1
"""Raised whenever the same settings would give other bytes, so that a cache of rendered images is not reused."""

PRODUCT = "Surface"
"""The product folder of the VISION layout."""

_Map = npt.NDArray[np.float32]

_JPEG_QUALITY = 92
_REFERENCE_SIZE = 320  # all lengths below are in pixels of an image of this size
_MARGIN = 6.0
_GAP = 14.0
_VISIBLE = 0.1
_MIN_SPREAD = 20.0  # of a scratch, across its length: a box of a few pixels cannot be matched at IoU 0.5
_SUPERSAMPLING = 4
_DEFECTS_PER_IMAGE = (1, 2, 3, 4)
_DEFECTS_PER_IMAGE_SHARES = (0.25, 0.35, 0.25, 0.15)
_GOLDEN = (math.sqrt(5) - 1) / 2


class Defect(enum.StrEnum):
    """What can be wrong with a surface."""

    SCRATCH = "scratch"
    """A groove cut by something hard: thin, long, one edge lit and the other in shadow."""
    PIT = "pit"
    """A cluster of small craters."""
    INCLUSION = "inclusion"
    """A foreign particle rolled into the metal: dark, irregular, drawn out along the rolling direction."""
    PATCH = "patch"
    """A blotch of oxide: larger, dull, tinted, with a darker rim."""


_CLASSES = tuple(Defect)


@dataclasses.dataclass(frozen=True, slots=True)
class Surface:
    """A rendered image and its truth."""

    image: npt.NDArray[np.uint8]
    """uint8 (size, size, 3), RGB."""
    boxes: npt.NDArray[np.int64]
    """int64 (N, 4), xyxy, pixels; x2 and y2 are exclusive."""
    areas: npt.NDArray[np.int64]
    """int64 (N,), visible pixels of each defect."""
    defects: tuple[Defect, ...]
    """Of each box."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """One image to render."""

    split: str
    number: int
    """Within the split."""
    seed: tuple[int, ...]
    defects: tuple[Defect, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Relief:
    """A defect before it is placed: maps of one shape (H, W), float32."""

    depth: _Map
    """Below the surface, in pixels of the reference size; the light shades its slopes."""
    reflectance: _Map
    """Relative change: -0.3 is a third darker."""
    cover: _Map
    """0 to 1: how far the brushed texture is hidden."""
    tint: tuple[float, float, float]
    """Gain of R, G and B where covered."""


def render_sample(source: SampleSource, folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Render labelled images and a few unlabelled ones below ``folder``, in the VISION layout.

    Seven images in ten go to ``train``, three to ``val``; on top of ``source.images`` come one for every twenty in
    ``inference``. The same source gives the same bytes; more images leave the first ones as they are.

    Args:
        source: How many, how large, how hard, which seed.
        folder: Gets ``Surface/{train,val,inference}``; made when absent.
        progress: Called with images done and images in all.

    Raises:
        DataError: ``folder`` cannot be written.
    """
    plans = _plan(source)
    records: dict[str, list[tuple[_Plan, Surface]]] = {"train": [], "val": [], "inference": []}
    try:
        for split in records:
            (folder / PRODUCT / split).mkdir(parents=True, exist_ok=True)
        for done, plan in enumerate(plans, start=1):
            surface = render_surface(source, plan.seed, plan.defects)
            (folder / PRODUCT / plan.split / _file_name(plan)).write_bytes(_encode(surface.image))
            records[plan.split].append((plan, dataclasses.replace(surface, image=_NO_PIXELS)))
            if progress is not None:
                progress(done, len(plans))
        for split, rendered in records.items():
            document = _coco(rendered, source.size, labelled=split != "inference")
            (folder / PRODUCT / split / "_annotations.coco.json").write_text(json.dumps(document), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{folder}: the sample cannot be written ({describe_os_error(error)}); "
            "choose a folder that you may write, with space left"
        ) from error


def render_surface(source: SampleSource, seed: Sequence[int], defects: Sequence[Defect]) -> Surface:
    """Draw one surface.

    The surface depends on ``seed`` alone: with and without defects it is the same but for the defects.

    Args:
        source: Its ``size`` and ``difficulty`` are used.
        seed: Any non-negative integers.
        defects: What to put on it, up to four; none for a clean surface.
    """
    size, scale = source.size, source.size / _REFERENCE_SIZE
    contrast = _between(1.2, 0.35, source.difficulty)
    # Two generators: how many numbers the defects draw must not change the surface below them.
    rng = np.random.default_rng([*seed, 0])
    light, brush = rng.uniform(0, 2 * math.pi), rng.normal(0, 4.0)
    placed = _place(np.random.default_rng([*seed, 1]), size, light, defects)
    texture = _brushed(rng, size, scale, brush) * np.float32(_between(0.7, 1.7, source.difficulty))
    shading = _illumination(rng, size, brush)
    balance = (1 + rng.normal(0.006, 0.012), 1.0, 1 + rng.normal(0.0, 0.02))
    noise = rng.standard_normal((size, size), np.float32) * np.float32(_between(0.006, 0.02, source.difficulty))

    grey = shading * (1 + texture)
    for item in placed:
        there = item.there
        grey[there] += shading[there] * (contrast * item.change - 0.6 * item.cover * texture[there])
    grey = cv2.GaussianBlur(grey, (0, 0), max(0.35, 0.55 * scale)) + noise
    channels = [grey * np.float32(255 * gain) for gain in balance]
    for item in placed:
        for channel, gain in zip(channels, item.tint, strict=True):
            channel[item.there] *= 1 + item.cover * (contrast * (gain - 1))
    return Surface(
        image=np.clip(np.rint(cv2.merge(channels)), 0, 255).astype(np.uint8),
        boxes=np.asarray([item.box for item in placed], np.int64).reshape(-1, 4),
        areas=np.asarray([item.area for item in placed], np.int64),
        defects=tuple(item.defect for item in placed),
    )


def _between(easy: float, hard: float, difficulty: float) -> float:
    return easy + (hard - easy) * difficulty


# ---- what to render


def _plan(source: SampleSource) -> list[_Plan]:
    rng = np.random.default_rng(source.seed)
    decks = {"train": _deal(rng.spawn(1)[0]), "val": _deal(rng.spawn(1)[0])}
    counts = dict.fromkeys(decks, 0)
    plans = []
    for index in range(source.images):
        split = "val" if index % 10 in (1, 4, 8) else "train"
        amount = int(rng.choice(_DEFECTS_PER_IMAGE, p=_DEFECTS_PER_IMAGE_SHARES))
        # Multiples of the golden ratio spread evenly, so the share holds in every split and for every number of images.
        clean = (index + 0.5) * _GOLDEN % 1 < source.clean_share
        defects = () if clean else tuple(next(decks[split]) for _ in range(amount))
        plans.append(_Plan(split, counts[split], (source.seed, index, 0), defects))
        counts[split] += 1
    unlabelled = _deal(rng.spawn(1)[0])
    for number in range(max(4, source.images // 20)):
        amount = 1 + number % 3
        plans.append(
            _Plan("inference", number, (source.seed, number, 1), tuple(next(unlabelled) for _ in range(amount)))
        )
    return plans


def _deal(rng: np.random.Generator) -> Iterator[Defect]:
    """Classes without end, each as often as the others."""
    while True:
        yield from (_CLASSES[i] for i in rng.permutation(len(_CLASSES)))


def _largest_extent(amount: int) -> float:
    """Largest extent of a defect, so that ``amount`` of them find room."""
    return {1: 130.0, 2: 120.0, 3: 105.0}.get(amount, 95.0)


# ---- the surface


def _brushed(rng: np.random.Generator, size: int, scale: float, angle: float) -> _Map:
    """Streaks along x, turned by ``angle`` degrees: relative brightness, about ±0.1."""
    reach = int(size * 1.25) + 8
    texture = np.zeros((reach, reach), np.float32)
    for width, length, strength in ((1.0, 70.0, 0.042), (2.2, 220.0, 0.030), (9.0, 600.0, 0.022), (1.0, 9.0, 0.022)):
        rows = max(4, int(reach / max(1.0, width * scale)))
        columns = max(4, int(reach / (length * scale)) + 3)
        streaks = cv2.resize(
            rng.standard_normal((rows, columns), np.float32), (reach, reach), interpolation=cv2.INTER_CUBIC
        )
        texture += streaks * np.float32(strength)
    turn = np.asarray(cv2.getRotationMatrix2D((reach / 2, reach / 2), angle, 1.0), np.float64)
    turn[:, 2] -= (reach - size) / 2
    return np.asarray(cv2.warpAffine(texture, turn, (size, size), flags=cv2.INTER_LINEAR), np.float32)


def _illumination(rng: np.random.Generator, size: int, angle: float) -> _Map:
    """Grey level of the bare surface: a slow gradient, darker corners, a specular band across the brushing."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    direction = rng.uniform(0, 2 * math.pi)
    gradient = np.float32(0.09) * (x * np.float32(math.cos(direction)) + y * np.float32(math.sin(direction)))
    vignette = np.float32(rng.uniform(0.06, 0.13)) * (x * x + y * y)
    lean = np.float32(math.tan(math.radians(angle)))
    across = (x - lean * y - np.float32(rng.uniform(-1.2, 1.2))) / np.float32(rng.uniform(0.25, 0.5))
    band = np.float32(rng.uniform(0.05, 0.16)) * np.exp(-across * across)
    return np.asarray(np.float32(rng.uniform(0.47, 0.6)) * (1 + gradient - vignette + band), np.float32)


def _slope(depth: _Map, light: float) -> _Map:
    """Brightness gained by slopes that face the light, lost by those that turn away."""
    dx = cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    dy = cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    return np.asarray(np.clip(dx * math.cos(light) + dy * math.sin(light), -0.6, 0.6), np.float32)


# ---- the defects


def _scratch(rng: np.random.Generator, scale: float, extent: float) -> _Relief:
    side = _grid(extent, scale)
    t = np.linspace(0, 1, 49)
    while True:
        angle = rng.uniform(0, math.pi)
        length = rng.uniform(0.55, 1.0) * extent * 0.95
        ends = np.asarray([[-0.5, 0.0], [0.5, 0.0]]) * length
        bend = np.asarray([rng.uniform(-0.15, 0.15) * length, rng.normal(0, 0.16) * length])
        turn = np.asarray([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        curve = (np.outer((1 - t) ** 2, ends[0]) + np.outer(2 * t * (1 - t), bend) + np.outer(t**2, ends[1])) @ turn
        spread = np.ptp(curve, axis=0)
        if spread.min() >= _MIN_SPREAD and spread.max() <= extent:
            break
    curve += extent / 2 - (curve.max(axis=0) + curve.min(axis=0)) / 2
    along = np.linspace(0, 1, 13)
    width = rng.uniform(2.6, 4.4) * (0.4 + 0.6 * np.sin(math.pi * t) ** 0.6)
    width *= 1 + 0.35 * np.interp(t, along, rng.uniform(-1, 1, 13))
    if rng.random() < 0.35:
        width[np.abs(t - rng.uniform(0.3, 0.65)) < 3.5 / length] = 0
    core = _stroke(side, scale, curve, width)
    bright = rng.random() < 0.7
    reflectance = core * np.float32(0.42 if bright else -0.42)
    beside = np.asarray([math.sin(angle), math.cos(angle)]) * rng.choice((-1, 1))
    if bright:  # the burr throws a shadow along one edge
        shadow = _stroke(side, scale, curve + 1.8 * beside, width * 0.7)
        reflectance -= np.float32(0.32) * shadow * (1 - core)
    if rng.random() < 0.5:  # a second, lighter touch of the same object
        part = slice(int(rng.integers(4, 16)), int(rng.integers(30, 45)))
        hairline = _stroke(side, scale, curve[part] - rng.uniform(4, 7) * beside, width[part] * 0.4)
        reflectance += np.float32(0.30 if bright else -0.30) * hairline * (1 - core)
    depth = cv2.GaussianBlur(core, (0, 0), 0.9 * scale) * np.float32(2.6)
    return _Relief(depth, reflectance, core * np.float32(0.6), (1.0, 1.0, 1.0))


def _pit(rng: np.random.Generator, scale: float, extent: float) -> _Relief:
    side = _grid(extent, scale)
    reach = rng.uniform(0.22, 0.36) * extent
    canvas = np.zeros((side * _SUPERSAMPLING, side * _SUPERSAMPLING), np.uint8)
    squeeze = rng.uniform(0.65, 1.0)
    for radius in np.sort(rng.uniform(1.9, 5.2, int(rng.integers(9, 18)))):
        distance, bearing = reach * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        centre = (extent / 2 + distance * math.cos(bearing), extent / 2 + squeeze * distance * math.sin(bearing))
        axes = (radius * rng.uniform(0.8, 1.2), radius * rng.uniform(0.8, 1.2))
        _ellipse(canvas, scale, centre, axes, rng.uniform(0, 180))
    crater = _downsample(canvas, side)
    depth = cv2.GaussianBlur(crater, (0, 0), 1.1 * scale) * np.float32(3.4)
    reflectance = cv2.GaussianBlur(crater, (0, 0), 0.6 * scale) * np.float32(-0.42)
    return _Relief(depth, reflectance, crater * np.float32(0.7), (1.0, 1.0, 1.0))


def _inclusion(rng: np.random.Generator, scale: float, extent: float) -> _Relief:
    side = _grid(extent, scale)
    length = rng.uniform(0.42, 0.8) * extent
    ratio = rng.uniform(0.26, 0.42)
    angle = rng.normal(0, 35) + (90 if rng.random() < 0.25 else 0)
    shape = _blob(rng, side, scale, (length / 2, max(8.0, length * ratio / 2)), angle, grain=7.0, roughness=0.55)
    mottle = _noise(rng, side, 4.0 * scale)
    reflectance = -shape * (np.float32(0.50) + np.float32(0.10) * mottle)
    depth = cv2.GaussianBlur(shape, (0, 0), 1.2 * scale) * np.float32(-1.6)
    return _Relief(depth, reflectance, shape, (1.02, 1.0, 0.96))


def _patch(rng: np.random.Generator, scale: float, extent: float) -> _Relief:
    side = _grid(extent, scale)
    radius = rng.uniform(0.28, 0.42) * extent
    shape = _blob(
        rng, side, scale, (radius, radius * rng.uniform(0.7, 1.0)), rng.uniform(0, 180), grain=16.0, roughness=0.5
    )
    rim = shape - cv2.erode(shape, np.ones((3, 3), np.uint8), iterations=max(1, round(2 * scale)))
    mottle = _noise(rng, side, 9.0 * scale)
    level = np.float32(-0.17 if rng.random() < 0.65 else 0.17)
    reflectance = shape * (level + np.float32(0.06) * mottle) - np.float32(0.10) * rim
    tint = (1.06, 0.99, 0.84) if rng.random() < 0.6 else (0.90, 0.98, 1.07)
    return _Relief(np.zeros_like(shape), reflectance, shape * np.float32(0.75), tint)


_RELIEFS: dict[Defect, Callable[[np.random.Generator, float, float], _Relief]] = {
    Defect.SCRATCH: _scratch,
    Defect.PIT: _pit,
    Defect.INCLUSION: _inclusion,
    Defect.PATCH: _patch,
}


# ---- drawing


_PAD = 8.0  # room around a defect for its blurred edges


def _grid(extent: float, scale: float) -> int:
    return math.ceil((extent + 2 * _PAD) * scale)


def _points(scale: float, points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Pixels of the reference size to OpenCV's fixed point (4 fractional bits) on a supersampled canvas."""
    return np.asarray(np.round((points + _PAD) * (scale * _SUPERSAMPLING * 16)), np.int32)


def _stroke(side: int, scale: float, curve: npt.NDArray[np.float64], width: npt.NDArray[np.float64]) -> _Map:
    """A line of varying width: coverage (side, side)."""
    canvas = np.zeros((side * _SUPERSAMPLING, side * _SUPERSAMPLING), np.uint8)
    along = np.gradient(curve, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    left = _points(scale, curve + normal * width[:, None] / 2)
    right = _points(scale, curve - normal * width[:, None] / 2)
    for i in np.flatnonzero((width[:-1] > 0) & (width[1:] > 0)):
        cv2.fillConvexPoly(canvas, np.stack([left[i], left[i + 1], right[i + 1], right[i]]), 255, cv2.LINE_8, 4)
    return _downsample(canvas, side)


def _ellipse(
    canvas: npt.NDArray[np.uint8], scale: float, centre: tuple[float, float], axes: tuple[float, float], angle: float
) -> None:
    x, y = _points(scale, np.asarray(centre))
    a, b = np.round(np.asarray(axes) * scale * _SUPERSAMPLING * 16).astype(int)
    cv2.ellipse(canvas, (int(x), int(y)), (int(a), int(b)), angle, 0, 360, 255, -1, cv2.LINE_8, 4)


def _downsample(canvas: npt.NDArray[np.uint8], side: int) -> _Map:
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def _noise(rng: np.random.Generator, side: int, grain: float) -> _Map:
    """Smooth noise of unit variance whose spots are ``grain`` pixels wide."""
    cells = max(3, math.ceil(side / grain) + 1)
    coarse = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _blob(
    rng: np.random.Generator,
    side: int,
    scale: float,
    axes: tuple[float, float],
    angle: float,
    grain: float,
    roughness: float,
) -> _Map:
    """One connected irregular shape about an ellipse: coverage (side, side)."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) - np.float32(side / 2)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u = (axis[None, :] * cos + axis[:, None] * sin) / (axes[0] * scale)
    v = (-axis[None, :] * sin + axis[:, None] * cos) / (axes[1] * scale)
    rough = _noise(rng, side, grain * scale) + 0.35 * _noise(rng, side, grain * scale / 2.5)
    # A band-limited edge: 1 inside, 0 outside, about a pixel and a half of transition
    inside = 0.8 - np.sqrt(u * u + v * v) + np.float32(roughness * 0.28) * np.clip(rough, -2, 2)
    shape = np.clip(inside * np.float32(min(axes) * scale / 1.5) + 0.5, 0, 1)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((shape > 0.05).astype(np.uint8))
    if count > 2:
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        shape = shape * (labels == largest)
    return np.asarray(shape, np.float32)


# ---- placing


def _tight(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Box of what is set: xyxy, x2 and y2 exclusive."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + w, y + h


@dataclasses.dataclass(frozen=True, slots=True)
class _Placed:
    """A lit defect on the surface; ``change`` and ``cover`` are as large as ``there``."""

    defect: Defect
    box: tuple[int, int, int, int]
    area: int
    there: tuple[slice, slice]
    """Rows and columns of the surface."""
    change: _Map
    """Of the brightness, relative."""
    cover: _Map
    tint: tuple[float, float, float]


def _place(rng: np.random.Generator, size: int, light: float, defects: Sequence[Defect]) -> list[_Placed]:
    """Draw the defects, light them and find each a place, the large ones first.

    They keep apart, so that no box is ambiguous. One that finds no room is left out.
    """
    scale = size / _REFERENCE_SIZE
    drawn = []
    for defect in defects:
        relief = _RELIEFS[defect](rng, scale, _largest_extent(len(defects)))
        change = relief.reflectance + np.float32(0.55) * _slope(relief.depth * np.float32(scale), light)
        drawn.append((defect, relief, change, _visible(change, relief)))
    placed: list[_Placed] = []
    for defect, relief, change, visible in sorted(drawn, key=lambda item: -item[3].sum()):
        x1, y1, x2, y2 = _tight(visible)
        corner = _free_corner(rng, size, scale, (x2 - x1, y2 - y1), [item.box for item in placed])
        if corner is None:
            continue
        left, top = corner[0] - x1, corner[1] - y1
        # The blurred edge of a relief may hang over the border of the surface.
        rows = slice(max(0, -top), min(change.shape[0], size - top))
        columns = slice(max(0, -left), min(change.shape[1], size - left))
        placed.append(
            _Placed(
                defect,
                box=(*corner, left + x2, top + y2),
                area=int(visible.sum()),
                there=(slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)),
                change=change[rows, columns],
                cover=relief.cover[rows, columns],
                tint=relief.tint,
            )
        )
    return placed


def _visible(change: _Map, relief: _Relief) -> npt.NDArray[np.bool_]:
    """Where any of R, G and B changes by more than a tenth: what a person would outline."""
    gains = [(1 + change) * (1 + relief.cover * np.float32(gain - 1)) for gain in relief.tint]
    return np.asarray(np.max(np.abs(np.stack(gains) - 1), axis=0) > _VISIBLE)


def _free_corner(
    rng: np.random.Generator,
    size: int,
    scale: float,
    extent: tuple[int, int],
    placed: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int] | None:
    """A top-left corner, uniform among all that keep clear of the border and of other defects; None when it is full."""
    width, height = extent
    margin, gap = round(_MARGIN * scale), round(_GAP * scale)
    free = np.zeros((size, size), np.bool_)
    free[margin : max(margin, size - margin - height + 1), margin : max(margin, size - margin - width + 1)] = True
    for x1, y1, x2, y2 in placed:
        free[max(0, y1 - gap - height + 1) : y2 + gap, max(0, x1 - gap - width + 1) : x2 + gap] = False
    corners = np.flatnonzero(free)
    if not len(corners):
        return None
    y, x = divmod(int(rng.choice(corners)), size)
    return x, y


# ---- writing


_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


def _file_name(plan: _Plan) -> str:
    return f"{plan.number:06d}.jpg"


def _encode(image: npt.NDArray[np.uint8]) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return bytes(data)


def _coco(rendered: Sequence[tuple[_Plan, Surface]], size: int, *, labelled: bool) -> dict[str, Any]:
    images = [
        {"id": i, "file_name": _file_name(plan), "width": size, "height": size} for i, (plan, _) in enumerate(rendered)
    ]
    found = [
        (i, _CLASSES.index(kind), box, area)
        for i, (_, surface) in enumerate(rendered)
        for kind, box, area in zip(surface.defects, surface.boxes.tolist(), surface.areas.tolist(), strict=True)
        if labelled
    ]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area,
            "iscrowd": 0,
        }
        for number, (image, category, (x1, y1, x2, y2), area) in enumerate(found)
    ]
    categories = [{"id": i, "name": kind.value, "supercategory": PRODUCT} for i, kind in enumerate(_CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}
