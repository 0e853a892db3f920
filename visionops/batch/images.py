"""Find the images of a batch, and the place for its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visionops.data.dataset import Dataset, Split
from visionops.data.files import walk_files
from visionops.data.remote import is_uri
from visionops.errors import DataError
from visionops.home import visionops_home

__all__ = ["batch_places", "list_images", "named_images"]


def list_images(folder: Path, name: str) -> Dataset:
    """List the images below a folder for a batch, without opening them and without labels.

    Raises:
        DataError: The folder does not exist or holds no image.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise DataError(f"--input {folder}: no such folder")
    keys = sorted(file.name for file in walk_files(folder) if file.is_image)
    if not keys:
        raise DataError(f"--input {folder}: holds no images")
    return named_images(keys, name).replace_column("path", [str(folder / key) for key in keys])


def batch_places(given: tuple[str | None, str | None], label: str, shared: str | None) -> tuple[str, str]:
    """Return the place of the images ("" for those of the data set) and the place for the tables.

    Args:
        given: Values of ``--input`` and ``--output``.
        label: Name of the default folder for the tables.
        shared: Storage shared with steps on other machines, as ``s3://bucket/prefix``; None where steps run here.

    Raises:
        DataError: Steps run on other machines, and a folder of this machine is given.
    """
    for flag, place in zip(("--input", "--output"), given, strict=True):
        if place and shared is not None and not is_uri(place):
            raise DataError(f"{flag} {place}: steps run on other machines; give {flag} s3://bucket/prefix")
    if shared is not None and not given[1] and not is_uri(shared):
        raise DataError("--output: steps run on other machines; give --output s3://bucket/prefix")
    home = str(visionops_home()) if shared is None else f"{shared.rstrip('/')}/visionops"
    folder, output = (
        place and (place if is_uri(place) else str(Path(place).absolute()))
        for place in (given[0], given[1] or f"{home}/predictions/{label}")
    )
    return folder or "", output or ""


def named_images(keys: Sequence[str], name: str) -> Dataset:
    """Return the images of a batch of which only the names are known yet."""
    return Dataset.from_columns(name, (), {"key": keys, "split": [Split.UNLABELLED.value] * len(keys)}, {})
