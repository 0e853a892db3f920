"""Name, link and list folders of files that refer to images.

A layout is the folder that a trainer reads. Its images are links to the stored bytes, so no bytes are copied.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from visionops.data.dataset import Dataset, Split
from visionops.data.files import atomic_folder
from visionops.data.hashing import hash_images
from visionops.errors import DataError

__all__ = ["flat_names", "link_file", "link_images", "link_layout", "list_layout", "restore_layout"]

_MAX_STEM = 120


def flat_names(keys: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return file names without suffix: readable, and unique whatever the case, the suffixes and the order of keys.

    Args:
        paths: Keys without their suffixes.
    """
    stems = [path.replace("/", "__") for path in paths]
    count = Counter(map(str.casefold, stems))
    return [
        stem
        if count[stem.casefold()] == 1 and len(stem) <= _MAX_STEM and "~" not in stem
        else f"{stem[:_MAX_STEM]}~{sha256(key.encode()).hexdigest()[:16]}"
        for stem, key in zip(stems, keys, strict=True)
    ]


def link_file(source: str, target: str) -> None:
    """Link ``source`` as ``target``: by a symbolic link, else a hard link, else a copy."""
    for link in (os.symlink, os.link):
        try:
            link(source, target)
        except OSError:
            continue
        return
    shutil.copyfile(source, target)


def link_images(dataset: Dataset, folder: Path, *splits: Split) -> Dataset:
    """Link the images of the given splits into ``folder / split``.

    Returns:
        The data set; ``path`` of these images points into the folder, and that of all others is "".

    Raises:
        DataError: An image is not on this machine.
    """
    keys, paths = dataset.column("key"), dataset.column("path")
    stems = flat_names(keys, [os.path.splitext(key)[0] for key in keys])  # noqa: PTH122 - per image, Path costs more
    linked = [""] * dataset.num_images
    for split in splits:
        place = folder / split.value
        place.mkdir(parents=True)
        for row in np.flatnonzero(np.array(dataset.column("split"), dtype=object) == split.value).tolist():
            if not paths[row]:
                raise DataError(f"{keys[row]}: the image is not on this machine; fetch the data set again")
            suffix = os.path.splitext(keys[row])[1].lower()  # noqa: PTH122
            linked[row] = f"{place}/{stems[row]}{suffix}"
            link_file(paths[row], linked[row])
    return dataset.replace_column("path", linked)


def link_layout(layout: Path, view: Path) -> None:
    """Link the files of ``layout`` into ``view``, where a trainer may write beside them.

    Links point to the targets of links in ``layout``. Files at the top are copied, because a trainer looks for the rest
    beside the file that it is given.

    Raises:
        DataError: The layout, or an image that it refers to, is missing.
    """
    if not layout.is_dir():
        raise DataError(f"{layout}: the converted data set is missing; run again with --no-cache")
    with atomic_folder(view, replace=True) as temporary:
        for root, _, files in os.walk(layout):
            inner = os.path.relpath(root, layout)
            target = temporary / inner
            target.mkdir(exist_ok=True)
            for name in files:
                source = f"{root}/{name}"
                if inner == ".":
                    shutil.copyfile(source, target / name)
                    continue
                if os.path.islink(source):  # noqa: PTH114 - per image, Path costs more than the link
                    source = os.readlink(source)  # noqa: PTH115
                    if not os.path.exists(source):  # noqa: PTH110
                        raise DataError(f"{source}: the image is missing; run again with --no-cache")
                link_file(source, f"{target}/{name}")


def list_layout(folder: Path) -> Dataset:
    """Return the files below ``folder`` as a data set: ``key`` relative to it, hashed.

    Raises:
        DataError: A file cannot be read.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    columns = {"key": names, "path": [f"{folder}/{name}" for name in names]}
    return hash_images(Dataset.from_columns("layout", (), columns, {}))


def restore_layout(files: Dataset, folder: Path) -> None:
    """Write ``folder`` as `list_layout` found it, as links to the current ``path`` of each file.

    Raises:
        DataError: Bytes of a file are missing, or the folder cannot be written.
    """
    with atomic_folder(folder, replace=False) as temporary:
        for key, path in zip(files.column("key"), files.column("path"), strict=True):
            if not path:
                raise DataError(f"{key}: missing from the artifact store; run again with --no-cache")
            target = temporary / key
            target.parent.mkdir(parents=True, exist_ok=True)
            link_file(path, str(target))
