"""Store artifacts as a folder of files, neither packed nor copied in a local store."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from zenml.materializers.base_materializer import BaseMaterializer

from visionops.home import visionops_home

__all__ = ["FolderMaterializer", "link_tree"]


class FolderMaterializer(BaseMaterializer):
    """Base for materializers that write and read a local folder with any store.

    With a local store that folder is the artifact itself. With a remote store, writing uses a temporary folder that is
    uploaded file by file, and reading uses a cache that is downloaded once per machine.
    """

    SKIP_REGISTRATION: ClassVar[bool] = True

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield a folder whose files become the artifact when the block ends without an error."""
        if self._is_local:
            folder = Path(self.uri)
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
            return
        with tempfile.TemporaryDirectory(prefix="visionops-") as name:
            yield Path(name)
            self._upload(Path(name))

    def reading(self) -> Path:
        """Return a local folder with the artifact's files."""
        return Path(self.uri) if self._is_local else self._download()

    @property
    def _is_local(self) -> bool:
        return bool(self.artifact_store.config.is_local)

    def _upload(self, folder: Path) -> None:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            target = f"{self.uri}/{path.relative_to(folder).as_posix()}"
            self.artifact_store.makedirs(target.rpartition("/")[0])
            with path.open("rb") as source, self.artifact_store.open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)

    def _download(self) -> Path:
        # An artifact never changes after it is written, so its address is a valid cache key.
        folder = visionops_home() / "cache" / "artifacts" / hashlib.sha256(self.uri.encode()).hexdigest()[:32]
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix="fetch-", dir=folder.parent))
        try:
            self._fetch_into(self.uri, staging)
            try:
                staging.rename(folder)
            except OSError:  # another process has already written the same bytes
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return folder

    def _fetch_into(self, uri: str, folder: Path) -> None:
        for entry in self.artifact_store.listdir(uri):
            name = os.fsdecode(entry).rstrip("/").rpartition("/")[2]
            child = f"{uri}/{name}"
            if self.artifact_store.isdir(child):
                (folder / name).mkdir(exist_ok=True)
                self._fetch_into(child, folder / name)
                continue
            with self.artifact_store.open(child, "rb") as source, (folder / name).open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def link_tree(source: Path, target: Path) -> None:
    """Add the files of ``source`` to ``target`` as hard links, or as copies if links are not possible."""
    for path in sorted(source.rglob("*")):
        destination = target / path.relative_to(source)
        if path.is_dir():
            destination.mkdir(parents=True, exist_ok=True)
            continue
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.unlink(missing_ok=True)
        try:
            os.link(path, destination)
        except OSError:
            shutil.copy2(path, destination)
