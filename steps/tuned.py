"""Find the result of a use case's newest finished search among the artifacts of its runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from zenml.client import Client
from zenml.enums import StackComponentType
from zenml.models import ArtifactVersionResponse

from visionops.errors import DataError, VisionOpsError
from visionops.tuning.result import TuningResult

__all__ = ["newest_tuning"]

_ARTIFACT = "tuning"
"""Name of the result of the step `search`."""
_PAGE = 20


def newest_tuning(use_case: str) -> TuningResult:
    """Return the result of the newest finished search of a use case, from the active stack's artifact store.

    Raises:
        VisionOpsError: No search has finished, or its files are gone.
    """
    for version in _newest_first():
        said = version.run_metadata.get("use_case")
        if said in {use_case, None}:
            result = _load(version)
            if result is not None and result.use_case == use_case:
                return result
            if result is None and said == use_case:
                raise VisionOpsError(
                    f"--tuned: {use_case}: the files of the newest tuning are gone from {version.uri}; run the same "
                    "command with --pipeline tuning"
                )
    raise VisionOpsError(f"--tuned: {use_case} has no finished tuning; run the same command with --pipeline tuning")


def _newest_first() -> Iterator[ArtifactVersionResponse]:
    client = Client()
    store = client.active_stack_model.components[StackComponentType.ARTIFACT_STORE][0].id
    for page in itertools.count(1):
        found = client.list_artifact_versions(
            sort_by="desc:created", page=page, size=_PAGE, name=_ARTIFACT, artifact_store_id=store, hydrate=True
        )
        yield from found.items
        if page >= found.total_pages:
            return


def _load(version: ArtifactVersionResponse) -> TuningResult | None:
    """Read a result, or return None if its files are gone: older releases store the use case only in the files."""
    try:
        result = version.load()
    except (OSError, DataError):
        return None
    return result if isinstance(result, TuningResult) else None
