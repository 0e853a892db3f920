"""The keys of an endpoint, in a Secret."""

from __future__ import annotations

import hashlib

from stacks.deployers.manifests.identity import Manifest, object_metadata
from stacks.deployers.manifests.settings import KubernetesDeployerConfig

__all__ = ["ADMIN_KEY", "API_KEYS", "CLIENT_KEY", "secret"]

ADMIN_KEY = "admin-key"
"""In the Secret: opens all of the server."""
CLIENT_KEY = "client-key"
"""In the Secret: for predictions."""
API_KEYS = "api-keys"
"""In the Secret: the lines by which the server knows its clients."""


def secret(name: str, config: KubernetesDeployerConfig, admin_key: str, client_key: str) -> Manifest:
    """The keys: as they are for who may read the Secret, and the digest that the server knows its clients by."""
    line = f"clients predict sha256:{hashlib.sha256(client_key.encode()).hexdigest()}\n"
    metadata = object_metadata(name, config)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata | {"name": f"{metadata['name']}-keys"},
        "type": "Opaque",
        "stringData": {ADMIN_KEY: admin_key, CLIENT_KEY: client_key, API_KEYS: line},
    }
