"""Cache images of a review as files on this machine, named by their content, so that each is fetched only once."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from visionops.data.files import describe_os_error
from visionops.errors import DataError
from visionops.inference.image_types import preferred_suffix
from visionops.review.items import ImageFacts
from visionops.review.ports import ImageStore

__all__ = ["cache_images", "file_name"]

_CONNECTIONS = 8


def file_name(image: ImageFacts) -> str:
    """Return the name of an image's file: its SHA-256, with the suffix of its format."""
    return image.sha256 + preferred_suffix(image.format)


def cache_images(images: ImageStore, wanted: Sequence[ImageFacts], folder: Path) -> int:
    """Put the wanted images into ``folder`` under their `file_name`; other files stay.

    A file of an image store on the same disk is linked, not copied.

    Returns:
        The number of images that were not there before.

    Raises:
        NotFound: The image store lacks an image.
        Unavailable: The image store cannot be reached, or an image in it is damaged.
        DataError: ``folder`` cannot be written.
    """
    todo = [image for image in wanted if not _has(folder, image)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            try:
                for _ in pool.map(lambda image: _fetch(images, image, folder), todo):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({describe_os_error(error)}); free some space or set VISIONOPS_HOME"
        ) from error
    return len(todo)


def _has(folder: Path, image: ImageFacts) -> bool:
    try:
        return (folder / file_name(image)).stat().st_size == image.num_bytes
    except OSError:
        return False


def _fetch(images: ImageStore, image: ImageFacts, folder: Path) -> None:
    draft = folder / f".{image.sha256}.{uuid.uuid4().hex[:8]}"
    try:
        if not _link(images.path(image.sha256), draft, image.sha256):
            draft.write_bytes(images.read(image.sha256))
        draft.replace(folder / file_name(image))
    finally:
        draft.unlink(missing_ok=True)  # renaming one of two links to the same file does nothing


def _link(source: Path | None, draft: Path, sha256: str) -> bool:
    """Link the file of the store, unless it is elsewhere or damaged. Reading it then reports the damage."""
    if source is None:
        return False
    try:
        draft.hardlink_to(source)
    except OSError:  # another disk, a file system without links, or the image is missing
        return False
    with draft.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
            return True
    draft.unlink()
    return False
