"""Facts on registered versions: figures with intervals, per class, and the numbers of the gate's decision."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from launch.facts_zenml import asked_stack, plain

if TYPE_CHECKING:
    from zenml.models import ArtifactVersionResponse

    from visionops.registry import RegisteredVersion

__all__ = ["versions_of"]

_NEWEST = 20
_MOST_EVALUATIONS = 200
"""Artifacts among which those of the versions are looked for."""
_GATE = "gate."
_KEPT = ("headline", "metrics", "intervals", "per_class", "num_images", "test_fingerprint", "engine", "precision")

_read: dict[str, dict[str, Any]] = {}
"""Address of an evaluation to what it says: an artifact never changes."""


def versions_of(stack: str | None, name: str) -> dict[str, Any]:
    """Return the newest versions of a use case, the latest first, with all that is known of each.

    ``evaluation`` is None where the artifact store has none of its bundle any more.

    Raises:
        VisionOpsError: The registry or ZenML does not answer, or there is no such stack.
    """
    with asked_stack(stack) as client:
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
    """Return, by the digest of its bundle, the newest evaluation of each that is wanted."""
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
    """Read the figures alone, without the pictures; None where the store does not have them any more."""
    from zenml.client import Client

    store = Client().active_stack.artifact_store
    path = f"{uri}/evaluation.json"
    # Artifacts of another stack's store lie elsewhere, and those of a store that was emptied nowhere.
    if not uri.startswith(str(store.path)) or not store.exists(path):
        return None
    with store.open(path, "rb") as file:
        raw: dict[str, Any] = plain(json.loads(file.read()))
    return raw if {*_KEPT, "bundle_digest"} <= raw.keys() else None
