"""``python -m deploy.serving.fetch s3://bucket/prefix/DIGEST TARGET --digest DIGEST``: a bundle, before a server.

What a pod's init container runs. ``TARGET`` holds the whole bundle of that digest afterwards, or what it held before.
The store's address and credentials are those of the environment: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` and so on.
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
    """Fetch and verify.

    Returns:
        2 when the bundle cannot be had; why is printed in one line.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.serving.fetch", description="Fetches a model bundle.")
    parser.add_argument("uri", help="where the object store has it: s3://bucket/prefix/DIGEST")
    parser.add_argument("target", type=Path, help="the folder that is to hold it")
    parser.add_argument("--digest", required=True, help="the bundle's identity; another bundle is refused")
    parser.add_argument("--smoke-images", type=Path, help="a folder for the images of --image")
    parser.add_argument("--image", action="append", default=[], help="where the store has one: …/smoke/SHA256")
    given = parser.parse_args(arguments)
    if given.image and not given.smoke_images:
        parser.error("--image: needs a folder, given by --smoke-images")
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
