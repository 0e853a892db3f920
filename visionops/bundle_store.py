"""Store bundles in an object store, addressed by their digest.

    s3://bucket/prefix/DIGEST/       the files of one bundle
    s3://bucket/prefix/smoke/SHA256  an image that a server must answer before it is ready

A bundle with a given digest never changes, so an existing one is not sent again. The card is sent last: a prefix
without a card holds an incomplete bundle, which the next attempt completes. Fetched files are checked before they get
their final name.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visionops.errors import BundleError, DataError
from visionops.inference.bundle import BundleCard, ModelBundle

# Imported late: a server that has its bundle must not wait for pyarrow.

__all__ = ["bundle_uri", "fetch_bundle", "fetch_images", "send_bundle", "send_images"]

_CARD = "bundle.json"
_CHUNK = 1 << 20
_STALLED_SECONDS = 20.0


def bundle_uri(store: str, digest: str) -> str:
    """Return the URI of the bundle with this digest in ``store``, as ``s3://bucket/prefix``."""
    place, mark, query = store.partition("?")
    return f"{place.rstrip('/')}/{digest}{mark}{query}"


def send_bundle(bundle: ModelBundle, store: str) -> str:
    """Copy ``bundle`` to ``store`` unless it is there.

    Returns:
        Its URI.

    Raises:
        DataError: The store cannot be reached or written.
    """
    from visionops.object_store import open_prefix

    uri = bundle_uri(store, bundle.digest)
    filesystem, prefix = open_prefix(uri, _STALLED_SECONDS)
    with _failing(uri, "written"):
        there = _sizes(filesystem, prefix)
        for name in (*bundle.card.files, _CARD):
            source = bundle.folder / name
            if there.get(name) != source.stat().st_size:
                _send(filesystem, source, f"{prefix}/{name}")
    return uri


def send_images(images: Sequence[bytes], store: str) -> list[str]:
    """Copy encoded images to ``store`` unless they are there.

    Returns:
        Their URIs, which end with the SHA-256 of each.

    Raises:
        DataError: The store cannot be reached or written.
    """
    from visionops.object_store import open_prefix

    filesystem, prefix = open_prefix(store, _STALLED_SECONDS)
    digests = {hashlib.sha256(image).hexdigest(): image for image in images}
    with _failing(store, "written"):
        for digest, image in digests.items():
            path = f"{prefix}/smoke/{digest}"
            if filesystem.get_file_info(path).size != len(image):
                stream = filesystem.open_output_stream(path)
                stream.write(image)
                stream.close()
    return [bundle_uri(store, f"smoke/{digest}") for digest in digests]


def fetch_images(uris: Sequence[str], target: Path) -> None:
    """Fetch the images at ``uris``, as `send_images` named them, into the folder ``target``.

    Raises:
        DataError: An image is missing or does not match its name, or ``target`` cannot be written.
    """
    from visionops.object_store import open_prefix

    try:
        target.mkdir(parents=True, exist_ok=True)
        for uri in uris:
            filesystem, path = open_prefix(uri, _STALLED_SECONDS)
            with _failing(uri, "read"), filesystem.open_input_stream(path) as source:
                image = source.read()
            digest = path.rpartition("/")[2]
            if hashlib.sha256(image).hexdigest() != digest:
                raise DataError(f"{uri}: is damaged; remove it and deploy again")
            (target / digest).write_bytes(image)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror}); free it or choose another") from error


def fetch_bundle(uri: str, target: Path, digest: str) -> ModelBundle:
    """Fetch the bundle with ``digest`` from ``uri`` into ``target``; do nothing if it is already there.

    Raises:
        BundleError: The stored bundle is damaged, or is another bundle.
        DataError: The store cannot be reached or read, or ``target`` cannot be written.
    """
    from visionops.object_store import open_prefix

    with contextlib.suppress(BundleError):
        if (present := ModelBundle.load(target)).digest == digest:
            return present
    filesystem, prefix = open_prefix(uri, _STALLED_SECONDS)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as work:
            draft = Path(work) / "bundle"
            draft.mkdir()
            _fetch_checked(filesystem, prefix, uri, draft, digest)
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror}); free it or choose another") from error
    return ModelBundle.load(target)


def _fetch_checked(filesystem: Any, prefix: str, uri: str, draft: Path, digest: str) -> None:
    with _failing(uri, "read"):
        _fetch(filesystem, f"{prefix}/{_CARD}", draft / _CARD)
    try:
        card = BundleCard.model_validate_json((draft / _CARD).read_bytes())
    except ValidationError as error:
        raise BundleError(f"{uri}/{_CARD}: not a card of this version; deploy the model again") from error
    if (found := ModelBundle(draft, card).digest) != digest:
        raise BundleError(f"{uri}: expected bundle {digest[:12]}, got {found[:12]}; remove it and deploy again")
    for name in card.files:
        if Path(name).name != name:
            raise BundleError(f"{uri}/{_CARD}: file name {name!r} points outside the bundle")
        with _failing(f"{uri}/{name}", "read"):
            _fetch(filesystem, f"{prefix}/{name}", draft / name)
    try:
        ModelBundle.load(draft)
    except BundleError as error:
        raise BundleError(f"{str(error).replace(str(draft), uri)}; remove what is there and deploy again") from error


def _sizes(filesystem: Any, prefix: str) -> dict[str, int]:
    from pyarrow import fs

    listed = filesystem.get_file_info(fs.FileSelector(prefix, allow_not_found=True))
    return {info.base_name: info.size for info in listed if info.type is fs.FileType.File}


def _send(filesystem: Any, source: Path, path: str) -> None:
    with source.open("rb") as file:
        # No `with` block: it would complete the object even after an error.
        stream = filesystem.open_output_stream(path)
        shutil.copyfileobj(file, stream, _CHUNK)
        stream.close()


def _fetch(filesystem: Any, path: str, target: Path) -> None:
    with filesystem.open_input_stream(path) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)


@contextlib.contextmanager
def _failing(uri: str, done: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{uri}: missing; deploy the model again") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the local disk: errors of the store have no number
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(" (Request ID")[0]
        raise DataError(
            f"{uri}: cannot be {done} ({reason}); check the name, AWS_ENDPOINT_URL and the credentials"
        ) from error
