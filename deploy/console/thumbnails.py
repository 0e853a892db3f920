"""Create thumbnails of items and cache them in a folder."""

from __future__ import annotations

import io
import secrets
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from PIL import Image

from deploy.console.context import Console
from visionops.errors import ImageError
from visionops.home import visionops_home
from visionops.inference.image import load_upright, to_rgb

__all__ = ["Thumbnails", "thumbnails_router"]

_SIDE: Final = 320
"""Length of the longer side in pixels."""
_QUALITY = 80


class Thumbnails:
    """Create thumbnails and cache them by the SHA-256 of their image.

    Args:
        folder: Cache folder, created if needed; it may be removed at any time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, console: Console, sha256: str) -> bytes:
        """Return a JPEG of at most 320 x 320 pixels.

        Raises:
            ImageError: The image cannot be decoded.
            NotFound: The image does not exist.
            Unavailable: The images cannot be reached.
        """
        path = self._folder / sha256[:2] / f"{sha256}.jpg"
        try:
            return path.read_bytes()
        except OSError:
            made = _shrink(console.review.images.read(sha256))
        self._keep(path, made)
        return made

    def _keep(self, path: Path, data: bytes) -> None:
        draft = path.with_suffix(f".{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            draft.replace(path)
        except OSError:  # such as a full disk; the thumbnail is created again next time
            draft.unlink(missing_ok=True)


def _shrink(data: bytes) -> bytes:
    _, image = load_upright(data, at_least=_SIDE)
    rgb = Image.fromarray(to_rgb(image))
    rgb.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2)
    stream = io.BytesIO()
    rgb.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def thumbnails_router(console: Console) -> APIRouter:
    """Return the thumbnail route over ``console``."""
    router = APIRouter(prefix="/api")
    kept = Thumbnails(visionops_home() / "console" / "thumbnails")

    @router.get("/items/{item}/thumbnail", response_class=Response)
    def thumbnail(item: str, request: Request) -> Response:
        """Return the thumbnail of an item; a placeholder if the image cannot be decoded."""
        sha256 = console.review.store.item(item).image.sha256
        tag = f'"{sha256}-{_SIDE}"'
        request.state.cache_control = "private, max-age=31536000, immutable"
        if tag in [part.strip() for part in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers={"ETag": tag})
        try:
            return Response(kept.of(console, sha256), media_type="image/jpeg", headers={"ETag": tag})
        except ImageError:
            return Response(_BROKEN, media_type="image/svg+xml", headers={"ETag": tag})

    return router


_BROKEN: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" fill="#8a94a3"/>'
    b'<path d="M6 6 26 26M26 6 6 26" stroke="#fff" stroke-width="2"/></svg>'
)
