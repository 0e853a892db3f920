"""Keep in a bundle the images that its model and its predecessors were trained, selected and tested on."""

from __future__ import annotations

import tempfile
from pathlib import Path

from visionops.data.history import SPLITS_FILE, SplitHistory
from visionops.inference.bundle import ModelBundle
from visionops.registry import CHAMPION, PREVIOUS, REVIEW, ModelRegistry
from visionops.review.versions import ReviewVersion

__all__ = ["add_review", "add_splits", "read_splits", "recall_splits"]


def add_splits(bundle: ModelBundle, history: SplitHistory) -> ModelBundle:
    """Return the bundle with `SPLITS_FILE`; a bundle that already has this history is returned unchanged.

    Args:
        history: Splits of this version and of those before it.
    """
    if (known := read_splits(bundle)) is not None and known.rows.equals(history.rows):
        return bundle
    # The card names the file last: a run that is killed here leaves a valid bundle.
    history.save(bundle.folder)
    ModelBundle.create(bundle.folder, bundle.card)
    return ModelBundle.load(bundle.folder)


def add_review(bundle: ModelBundle, version: ReviewVersion | None) -> ModelBundle:
    """Return the bundle with the review's data version on its card, or without one if ``version`` is None."""
    training = {name: value for name, value in bundle.card.training.items() if name != REVIEW}
    if version is not None and version.number:
        training[REVIEW] = version.lineage
    if training == bundle.card.training:
        return bundle
    return ModelBundle.create(bundle.folder, bundle.card.model_copy(update={"training": training}))


def read_splits(bundle: ModelBundle) -> SplitHistory | None:
    """Return the history in a bundle; None for a bundle of a release that did not store it."""
    return SplitHistory.load(bundle.folder) if SPLITS_FILE in bundle.card.files else None


def recall_splits(registry: ModelRegistry, name: str) -> tuple[SplitHistory, tuple[str, ...]]:
    """Return the splits that earlier versions of a model had, and the versions that do not record theirs.

    Reads the champion, the champion before it and the version of the last training, promoted or not. Each version
    carries the history that it knew when it was trained; two concurrent trainings do not know each other.

    Args:
        name: Name of the registered model.

    Raises:
        RegistryError: The registry does not answer.
        BundleError: A bundle is corrupt.
    """
    candidates = (registry.by_alias(name, CHAMPION), registry.by_alias(name, PREVIOUS), registry.newest_trained(name))
    found = {version.version: version for version in candidates if version is not None}
    history, silent = SplitHistory.empty(), []
    for version in found.values():
        with tempfile.TemporaryDirectory(prefix="visionops-lineage-") as folder:
            known = read_splits(registry.fetch_bundle(version, Path(folder)))
        if known is None:
            silent.append(version.version)
        else:
            history = history.merged(known)
    return history, tuple(silent)
