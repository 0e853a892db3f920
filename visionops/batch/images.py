"""The images of a batch, and where its tables go."""

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
    """The images below a folder, for a batch: not looked into, without labels.

    Raises:
        DataError: No such folder, or no image in it.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise DataError(f"--input {folder}: no such folder")
    keys = sorted(file.name for file in walk_files(folder) if file.is_image)
    if not keys:
        raise DataError(f"--input {folder}: holds no images")
    return named_images(keys, name).replace_column("path", [str(folder / key) for key in keys])


def batch_places(given: tuple[str | None, str | None], label: str, shared: str | None) -> tuple[str, str]:
    """Where the images are ("" for those of the data set) and where the tables go.

    Args:
        given: ``--input`` and ``--output``.
        label: Of the tables, below where they go when nothing is given.
        shared: What steps on other machines share, as ``s3://bucket/prefix``; None where steps run on this one.

    Raises:
        DataError: A folder of this machine is given to steps on others.
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
    """Images for a batch of which only the names are known yet."""
    return Dataset.from_columns(name, (), {"key": keys, "split": [Split.UNLABELLED.value] * len(keys)}, {})
