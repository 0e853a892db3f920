"""Routes for the images of reviews; an image never changes, so browsers may cache it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from deploy.console.context import Console

__all__ = ["images_router"]


def images_router(console: Console) -> APIRouter:
    """Return the image route over ``console``."""
    router = APIRouter(prefix="/api")

    @router.get("/items/{item}/image", response_class=Response)
    def image(item: str, request: Request) -> Response:
        """Return the unchanged image file of an item."""
        found = console.review.store.item(item)
        tag = f'"{found.image.sha256}"'
        request.state.cache_control = "private, max-age=31536000, immutable"
        if tag in [part.strip() for part in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers={"ETag": tag})
        media = f"image/{found.image.format.lower()}"
        return Response(console.review.images.read(found.image.sha256), media_type=media, headers={"ETag": tag})

    return router
