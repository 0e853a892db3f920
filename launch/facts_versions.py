"""Report registered versions with metrics, intervals, values per class, and the numbers of the gate's decision."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from launch.facts_zenml import plain, stack_client

if TYPE_CHECKING:
    from zenml.models import ArtifactVersionResponse

    from visionops.registry import RegisteredVersion

__all__ = ["versions_of"]

_NEWEST = 20
_MOST_EVALUATIONS = 200
"""Number of newest evaluations to search for those of the versions."""
_GATE = "gate."
_KEPT = ("headline", "metrics", "intervals", "per_class", "num_images", "test_fingerprint", "engine", "precision")

_read: dict[str, dict[str, Any]] = {}
"""Evaluations already read, by address; artifacts never change."""


def versions_of(stack: str | None, name: str) -> dict[str, Any]:
    """Return the newest versions of a use case with all their details, latest first.

    ``evaluation`` is None if the artifact store no longer has the one of its bundle.

    Raises:
        VisionOpsError: The registry or ZenML does not answer, or the stack is unknown.
    """
    with stack_client(stack) as client:
        from stacks.registry import active_registry_uri
        from visionops.registry import ModelRegistry

        registry = ModelRegistry(active_registry_uri())
        versions = registry.versions(name, _NEWEST)
        champion = registry.by_alias(name, "champion")
        stored = client.list_artifact_versions(
            artifact="evaluation", sort_by="desc:created", size=_MOST_EVALUATIONS, hydrate=True
        )
        evaluations = _evaluations(stored.items, {version.digest for version in versions})
        return {
            "champion": champion and champion.version,
            "versions": [_row(version, evaluations.get(version.digest)) for version in versions],
        }


def _row(version: RegisteredVersion, evaluation: dict[str, Any] | None) -> dict[str, Any]:
    from visionops.canary.holding import release_state

    tags = version.tags
    release = release_state(version)
    return {
        "version": version.version,
        "aliases": list(version.aliases),
        "digest": version.digest,
        "created": version.created.isoformat(),
        "trained": version.trained.isoformat(),
        "rolled_back": version.rolled_back,
        "precision": tags.get("visionops.precision", ""),
        "promoted_by_gate": version.gate_promotes,
        "gate": {key.removeprefix(_GATE): text for key, text in tags.items() if key.startswith(_GATE)},
        "promoted_by_hand": tags.get("visionops.promoted_by_hand", ""),
        "release": f"{release.stage.value}: {release.reason}" if release else "",
        "metrics": plain({k.removeprefix("test."): float(v) for k, v in tags.items() if k.startswith("test.")}),
        "evaluation": evaluation,
    }


def _evaluations(stored: list[ArtifactVersionResponse], digests: set[str]) -> dict[str, dict[str, Any]]:
    """Return the newest evaluation of each wanted bundle, by the bundle's digest."""
    found: dict[str, dict[str, Any]] = {}
    for artifact in stored:
        if len(found) == len(digests):
            break
        raw = _read.get(artifact.uri) or _load(artifact.uri)
        if raw is not None:
            _read[artifact.uri] = raw
            digest = raw["bundle_digest"]
            if digest in digests and digest not in found:
                found[digest] = {key: raw[key] for key in _KEPT}
    return found


def _load(uri: str) -> dict[str, Any] | None:
    """Read the metrics without the pictures; None if the store no longer has them."""
    from zenml.client import Client

    store = Client().active_stack.artifact_store
    path = f"{uri}/evaluation.json"
    # Artifacts may be in another stack's store, or removed from a store that was emptied.
    if not uri.startswith(str(store.path)) or not store.exists(path):
        return None
    with store.open(path, "rb") as file:
        raw: dict[str, Any] = plain(json.loads(file.read()))
    return raw if {*_KEPT, "bundle_digest"} <= raw.keys() else None
