"""Open the review that the environment selects, for command lines, services and steps.

``VISIONOPS_REVIEW_DATABASE``: ``postgresql://user@host/database``, or the path of a file of SQLite; by default
``review/review.db`` below ``$VISIONOPS_HOME``. ``VISIONOPS_REVIEW_IMAGES``: ``s3://bucket/prefix``, or a folder; by
default ``review/images`` there. ``VISIONOPS_REVIEW_INDEX``: a folder for the caches of the search for similar images;
by default ``review/index`` there. Passwords and keys come from PGPASSWORD and the variables of AWS.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from visionops.home import visionops_home
from visionops.review.service import Review
from visionops.review.similar import Similar
from visionops.review_store.database import Database
from visionops.review_store.images import open_images
from visionops.review_store.likeness import SqlLikenessStore
from visionops.review_store.store import SqlReviewStore
from visionops.similarity.embedding import ShapeEmbedder

__all__ = ["DATABASE", "IMAGES", "INDEX", "open_database", "open_review", "review_over"]

DATABASE = "VISIONOPS_REVIEW_DATABASE"
IMAGES = "VISIONOPS_REVIEW_IMAGES"
INDEX = "VISIONOPS_REVIEW_INDEX"


def open_database(place: str | None = None) -> Database:
    """Return the database at ``place``, or else the one in the environment. It does not connect yet.

    Raises:
        Invalid: It is not a valid address, or holds a password.
    """
    return Database(place or os.environ.get(DATABASE) or str(visionops_home() / "review" / "review.db"))


def review_over(database: Database, images: str | None = None) -> Review:
    """Return the review of an open database, creating the tables in an empty one. `Review.close` saves its caches.

    Raises:
        Invalid: The place for images is not a valid address, or holds a password.
        OtherSchema: The database has the schema of another version.
        Unavailable: It cannot be reached or written.
    """
    place = images or os.environ.get(IMAGES) or str(visionops_home() / "review" / "images")
    caches = Path(os.environ.get(INDEX) or visionops_home() / "review" / "index").expanduser().absolute()
    store, kept = SqlReviewStore(database), open_images(place)
    return Review(store, kept, Similar(SqlLikenessStore(database), kept, ShapeEmbedder(), caches, database.place))


@contextlib.contextmanager
def open_review(database: str | None = None, images: str | None = None) -> Iterator[Review]:
    """Yield the review of a database and a place for images, and close both at the end of the block.

    Raises:
        ReviewError: As `review_over`.
    """
    opened = open_database(database)
    try:
        review = review_over(opened, images)
        try:
            yield review
        finally:
            review.close()
    finally:
        opened.close()
