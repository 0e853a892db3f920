"""``python -m deploy.serving.fetch s3://bucket/prefix/DIGEST TARGET --digest DIGEST``: download and verify a bundle.

A pod's init container runs it before the server starts. ``TARGET`` then holds the complete bundle with that digest; on
failure it is unchanged. The store's address and credentials come from the environment: ``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID`` and so on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from visionops.bundle_store import fetch_bundle, fetch_images
from visionops.errors import VisionOpsError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Download and verify a bundle.

    Returns:
        2 if the bundle cannot be downloaded; the reason is printed in one line.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.serving.fetch", description="Download a model bundle.")
    parser.add_argument("uri", help="address in the object store: s3://bucket/prefix/DIGEST")
    parser.add_argument("target", type=Path, help="folder for the bundle")
    parser.add_argument("--digest", required=True, help="expected digest; another bundle is refused")
    parser.add_argument("--smoke-images", type=Path, help="folder for the images of --image")
    parser.add_argument("--image", action="append", default=[], help="address of an image: …/smoke/SHA256; repeatable")
    given = parser.parse_args(arguments)
    if given.image and not given.smoke_images:
        parser.error("--image: needs a folder; set --smoke-images")
    try:
        bundle = fetch_bundle(given.uri, given.target, given.digest)
        if given.image:
            fetch_images(given.image, given.smoke_images)
    except VisionOpsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{given.target}: bundle {bundle.digest[:12]}, {bundle.card.task}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
