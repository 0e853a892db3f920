"""Write the sample as a folder in the VISION layout."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from visionops.data.files import describe_os_error
from visionops.data.sample.reliefs import Defect
from visionops.data.sample.surfaces import Surface, render_surface
from visionops.data.settings import SampleSource
from visionops.errors import DataError

__all__ = ["PRODUCT", "RENDERER_VERSION", "render_sample"]

RENDERER_VERSION: int = 1
"""Version of the renderer: increase it if the same settings give other bytes, so that cached images are not reused."""

PRODUCT = "Surface"
"""Product folder in the VISION layout."""

_JPEG_QUALITY = 92
_DEFECTS_PER_IMAGE = (1, 2, 3, 4)
_DEFECTS_PER_IMAGE_SHARES = (0.25, 0.35, 0.25, 0.15)
_GOLDEN = (math.sqrt(5) - 1) / 2
_CLASSES = tuple(Defect)
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """One image to render."""

    split: str
    number: int
    """Number within the split."""
    seed: tuple[int, ...]
    defects: tuple[Defect, ...]


def render_sample(source: SampleSource, folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Render labelled images and a few unlabelled ones below ``folder``, in the VISION layout.

    Seven in ten images go to ``train``, three to ``val``. In addition, one image per twenty of ``source.images`` goes
    to ``inference``. The same source gives the same bytes; with more images the first ones do not change.

    Args:
        source: Number, size, difficulty and seed.
        folder: Target folder for ``Surface/{train,val,inference}``; created if missing.
        progress: Called with the images done and their total.

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
    """Yield classes without end, each equally often."""
    while True:
        yield from (_CLASSES[i] for i in rng.permutation(len(_CLASSES)))


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
