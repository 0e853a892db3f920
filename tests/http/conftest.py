"""Test the shared server code through the prediction server."""

from tests.serving.conftest import _own_logging, bundle, client, other_bundle, red_cell  # noqa: F401
