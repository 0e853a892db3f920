"""Build the Secret with the keys of an endpoint."""

from __future__ import annotations

import hashlib

from stacks.deployers.manifests.identity import Manifest, object_metadata
from stacks.deployers.manifests.settings import KubernetesDeployerConfig

__all__ = ["ADMIN_KEY", "API_KEYS", "CLIENT_KEY", "secret"]

ADMIN_KEY = "admin-key"
"""Key in the Secret for all routes of the server."""
CLIENT_KEY = "client-key"
"""Key in the Secret for predictions."""
API_KEYS = "api-keys"
"""Entry in the Secret with the server's list of clients and key digests."""


def secret(name: str, config: KubernetesDeployerConfig, admin_key: str, client_key: str) -> Manifest:
    """Return a Secret with the keys in plain text and the client list with the digest of the client key."""
    line = f"clients predict sha256:{hashlib.sha256(client_key.encode()).hexdigest()}\n"
    metadata = object_metadata(name, config)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata | {"name": f"{metadata['name']}-keys"},
        "type": "Opaque",
        "stringData": {ADMIN_KEY: admin_key, CLIENT_KEY: client_key, API_KEYS: line},
    }
