"""Read what pipelines have stored about the data of a use case, for the console."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from visionops.errors import VisionOpsError

if TYPE_CHECKING:
    from zenml.models import ArtifactVersionResponse

    from visionops.data.dataset import Dataset
    from visionops.data.validation.report import ValidationReport

__all__ = ["data", "data_card", "data_images"]

_PAGE = 20
_MOST = 200
"""Number of an artifact's newest versions to search; the list contains those of all use cases."""
_MOST_PLACES = 20
_MOST_GROUPS = 100


def data(stack: str | None, name: str) -> dict[str, Any] | None:
    """Return the findings of the newest training or validation of a use case; None if there is none.

    Returns:
        ``created``, ``verdict``, ``counts`` (images, usable, boxes, splits, classes), ``findings`` by code with their
        first places, ``near_groups``: keys of images that look the same, and ``cards``: available pages.

    Raises:
        VisionOpsError: ZenML does not answer, or its store has lost the files.
    """
    version, report = _report(stack, name) or (None, None)
    if version is None or report is None:
        return None
    found = [
        {
            "severity": severity.value,
            "code": code.value,
            "count": len(findings),
            "places": [f"{one.where}: {one.message}" for one in findings[:_MOST_PLACES]],
        }
        for severity, code, findings in report.grouped()
    ]
    prepared = _prepared(stack, name)
    return {
        "created": version.created.isoformat(),
        "verdict": report.verdict,
        "counts": report.counts,
        "findings": found,
        "near_groups": [list(group) for group in report.near_groups[:_MOST_GROUPS]],
        "num_near_groups": len(report.near_groups),
        "cards": ["validation", *(["labels"] if prepared else [])],
        "splits": prepared[1].split_counts() if prepared else report.counts.get("splits", {}),
        "notes": list(prepared[1].notes) if prepared else [],
    }


def data_card(stack: str | None, name: str, card: str) -> str | None:
    """Return a stored page of a run, ``validation`` or ``labels``; None if it is missing.

    Raises:
        VisionOpsError: ZenML does not answer.
    """
    if card == "validation":
        found = _report(stack, name)
        return found[1].card if found else None
    prepared = _prepared(stack, name)
    if prepared is None:
        return None
    step = prepared[0].producer_step_run_id
    for version in _newest(stack, "label_audit"):
        if version.producer_step_run_id == step:
            return str(version.load())
    return None


def data_images(stack: str | None, name: str, wanted: str, first: int, limit: int) -> dict[str, Any]:
    """Return images of the newest training with their origin.

    Args:
        wanted: Part of the key, or prefix of the SHA-256; "" for all.
        first: Index of the first image, from 0.

    Returns:
        ``count``, and ``images``: ``key``, ``sha256``, ``split``, ``classes``.
    """
    prepared = _prepared(stack, name)
    if prepared is None:
        return {"count": 0, "images": []}
    dataset = prepared[1]
    keys, digests, splits = (dataset.column(column) for column in ("key", "sha256", "split"))
    rows = [
        row
        for row, (key, digest) in enumerate(zip(keys, digests, strict=True))
        if wanted.lower() in key.lower() or (wanted and digest.startswith(wanted.lower()))
    ]
    shown = rows[first : first + limit]
    images = [{"key": keys[row], "sha256": digests[row], "split": splits[row]} for row in shown]
    return {"count": len(rows), "images": images}


def _report(stack: str | None, name: str) -> tuple[ArtifactVersionResponse, ValidationReport] | None:
    for version in _newest(stack, "validation"):
        report = _loaded(version)
        if report.dataset_name == name:
            return version, report
    return None


def _prepared(stack: str | None, name: str) -> tuple[ArtifactVersionResponse, Dataset] | None:
    for version in _newest(stack, "prepared"):
        tables = _tables(version)
        if tables.name == name:
            return version, tables
    return None


def _newest(stack: str | None, artifact: str) -> Iterator[ArtifactVersionResponse]:
    """Yield the versions of an artifact in the store of a stack, newest first."""
    from launch.environment import quieten_libraries

    quieten_libraries()
    from zenml.client import Client
    from zenml.enums import StackComponentType

    from stacks.zenml_server import active_stack_name, require_zenml_server

    require_zenml_server()
    client = Client()
    model = client.get_stack(stack or active_stack_name(), allow_name_prefix_match=False)
    store = model.components[StackComponentType.ARTIFACT_STORE][0].id
    for page in itertools.count(1):
        found = client.list_artifact_versions(
            sort_by="desc:created", page=page, size=_PAGE, artifact=artifact, artifact_store_id=store, hydrate=True
        )
        yield from found.items
        if page >= found.total_pages or page * _PAGE >= _MOST:
            return


_KEPT: dict[str, Any] = {}
"""Artifacts already read, which never change."""


def _loaded(version: ArtifactVersionResponse) -> Any:
    key = str(version.id)
    if key not in _KEPT:
        try:
            _KEPT[key] = version.load()
        except OSError as error:
            raise VisionOpsError(f"{version.uri}: cannot be read ({error.strerror}); train again") from error
    return _KEPT[key]


def _tables(version: ArtifactVersionResponse) -> Dataset:
    """Return the tables of a data set without fetching images."""
    key = str(version.id)
    if key not in _KEPT:
        from zenml.artifacts.utils import load_artifact_store

        from materializers.dataset import DatasetMaterializer
        from visionops.data.shards import StoredDataset

        assert version.artifact_store_id is not None  # versions were listed by store
        store = load_artifact_store(version.artifact_store_id)
        stored = DatasetMaterializer(version.uri, store).load(StoredDataset)
        assert isinstance(stored, StoredDataset)
        _KEPT[key] = stored.tables
    found: Dataset = _KEPT[key]
    return found
