from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.helpers.datasets import read_as, write_vision
from visionops.data.hashing import hash_images
from visionops.errors import DataError


def test_fills_hash_and_size(tmp_path):
    dataset = read_as(write_vision(tmp_path, images=30), "vision", "v")
    steps: list[tuple[int, int]] = []
    hashed = hash_images(dataset, lambda done, total: steps.append((done, total)))
    contents = [Path(p).read_bytes() for p in dataset.column("path")]
    assert hashed.column("sha256") == [hashlib.sha256(c).hexdigest() for c in contents]
    assert hashed.column("num_bytes") == [len(c) for c in contents]
    assert steps == [(64, 90), (90, 90)]


def test_known_hashes_are_not_read_again_and_missing_files_are_kept(tmp_path):
    dataset = hash_images(read_as(write_vision(tmp_path), "vision", "v"))
    paths = [Path(p) for p in dataset.column("path")]
    paths[0].unlink()
    paths[1].unlink()
    hashes = dataset.column("sha256")
    again = hash_images(
        dataset.replace_column("sha256", ["", *hashes[1:]]).replace_column(
            "path", [*dataset.column("path")[:2], "", *dataset.column("path")[3:]]
        )
    )
    assert again.column("sha256") == ["", *hashes[1:]]
    assert again.column("num_bytes")[0] == -1


def test_a_file_that_cannot_be_read(tmp_path):
    dataset = read_as(write_vision(tmp_path), "vision", "v")
    folder = dataset.replace_column("path", [str(tmp_path)] * dataset.num_images)
    with pytest.raises(DataError, match="cannot be read"):
        hash_images(folder)
