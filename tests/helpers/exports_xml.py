"""What labelImg, Label Studio, Roboflow and CVAT write, made from a plain description of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from PIL import Image

__all__ = ["Made", "export_cvat", "export_voc", "write_made"]


class Made(NamedTuple):
    """One image of a data set to export."""

    name: str
    width: int
    height: int
    boxes: list[tuple[str, tuple[float, float, float, float]]]
    """Class and continuous corners in pixels from 0."""
    split: str = ""


def write_made(path: Path, width: int, height: int) -> Path:
    """A grey image; PNG whatever its name says, as nothing decodes it here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path, "PNG")
    return path


def export_voc(folder: Path, images: Sequence[Made], classes: Sequence[str] = ()) -> Path:
    """``Annotations``, ``JPEGImages`` and lists of the splits, as CVAT's Pascal VOC has them."""
    del classes
    for image in images:
        write_made(folder / "JPEGImages" / image.name, image.width, image.height)
        stem = image.name.rpartition(".")[0]
        file = folder / "Annotations" / f"{stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(voc_text(image), encoding="utf-8")
        if image.split:
            listed = folder / "ImageSets" / "Main" / f"{image.split}.txt"
            listed.parent.mkdir(parents=True, exist_ok=True)
            with listed.open("a", encoding="utf-8", newline="\n") as lines:
                lines.write(f'"{stem}"\n' if " " in stem else f"{stem}\n")
    return folder


def voc_text(image: Made) -> str:
    """One VOC file; corners are pixels from 1, the last included, with fractions where there are any."""
    objects = "".join(
        f"<object><name>{escape(name)}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox><xmin>{x1 + 1!r}</xmin><ymin>{y1 + 1!r}</ymin><xmax>{x2!r}</xmax><ymax>{y2!r}</ymax>"
        "</bndbox></object>"
        for name, (x1, y1, x2, y2) in image.boxes
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotation verified="yes"><folder>images</folder>'
        f"<filename>{escape(image.name)}</filename><path>C:\\Users\\me\\{escape(image.name)}</path>"
        f"<source><database>Unknown</database></source><size><width>{image.width}</width><height>{image.height}</height>"
        f"<depth>3</depth></size><segmented>0</segmented>{objects}</annotation>"
    )


def export_cvat(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """A project of CVAT for images 1.1: ``annotations.xml``, and images below ``images/<subset>/``."""
    labels = "".join(
        f"<label><name>{escape(name)}</name><color>#fa3253</color><type>any</type><attributes></attributes></label>"
        for name in classes
    )
    rows = []
    for index, image in enumerate(images):
        subset = f" subset={quoteattr(image.split)}" if image.split else ""
        boxes = "".join(
            f'<box label={quoteattr(name)} source="manual" occluded="0" xtl="{x1!r}" ytl="{y1!r}" xbr="{x2!r}" '
            f'ybr="{y2!r}" z_order="0"></box>'
            for name, (x1, y1, x2, y2) in image.boxes
        )
        rows.append(
            f'<image id="{index}" name={quoteattr(image.name)}{subset} task_id="1" width="{image.width}" '
            f'height="{image.height}">{boxes}</image>'
        )
        write_made(folder / "images" / image.split / image.name, image.width, image.height)
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><project><id>1</id>'
        f"<labels>{labels}</labels></project><dumped>2024-01-01</dumped></meta>{''.join(rows)}</annotations>"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    return folder
