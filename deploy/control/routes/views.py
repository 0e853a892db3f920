"""Convert review objects to JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from visionops.review.agreement import Agreement
from visionops.review.items import AuditRow, DataVersion, Decision, ReviewItem, Submission
from visionops.review.opinions import SeenOpinion
from visionops.review.ports import Stats

__all__ = [
    "agreement_view",
    "arrival_view",
    "audit_view",
    "decision_view",
    "item_view",
    "opinion_view",
    "stats_view",
    "version_view",
]


def item_view(item: ReviewItem) -> dict[str, Any]:
    """Return an item with its status and its first arrival."""
    status = item.status
    return {
        "id": item.id,
        "use_case": item.use_case,
        "added": item.added.isoformat(),
        "image": dataclasses.asdict(item.image) | {"url": f"/review/items/{item.id}/image"},
        "state": status.state.value,
        "round": status.round,
        "revision": status.revision,
        "holder": status.holder,
        "lease_until": status.lease_until and status.lease_until.isoformat(),
        "verdict": status.verdict and status.verdict.value,
        "version": status.version,
        **arrival_view(item.first),
        "priority": item.priority,
        "reasons": [dataclasses.asdict(reason) for reason in item.reasons],
        "predicted": item.predicted and dataclasses.asdict(item.predicted),
        "num_opinions": len(status.reviewers),
        "likeness": item.likeness and dataclasses.asdict(item.likeness),
        "is_held_out": item.is_held_out,
    }


def arrival_view(arrival: Submission) -> dict[str, Any]:
    """Return the arrival of an image: its source and what was known about it."""
    predicted = arrival.predicted
    return {
        "origin": arrival.origin.value,
        "reference": arrival.reference,
        "name": arrival.name,
        "comment": arrival.comment,
        "proposed": arrival.proposed,
        "predicted": predicted and dataclasses.asdict(predicted),
        "reasons": [dataclasses.asdict(reason) for reason in arrival.reasons],
    }


def decision_view(decision: Decision) -> dict[str, Any]:
    """Return a decision."""
    return dataclasses.asdict(decision) | {"at": decision.at.isoformat(), "verdict": decision.verdict.value}


def opinion_view(opinion: SeenOpinion) -> dict[str, Any]:
    """Return an opinion, as far as the reader may see it."""
    return dataclasses.asdict(opinion) | {"verdict": opinion.verdict.value}


def agreement_view(agreement: Agreement) -> dict[str, Any]:
    """Return the agreement of reviewers; a pair is a list of two names with their figures."""
    pairs = [{"reviewers": list(names), **dataclasses.asdict(between)} for names, between in agreement.pairs.items()]
    return dataclasses.asdict(dataclasses.replace(agreement, pairs={})) | {"pairs": pairs}


def audit_view(row: AuditRow) -> dict[str, Any]:
    """Return a change of an item."""
    return dataclasses.asdict(row) | {"at": row.at.isoformat()}


def version_view(version: DataVersion) -> dict[str, Any]:
    """Return a data version."""
    return dataclasses.asdict(version) | {"at": version.at.isoformat()}


def stats_view(stats: Stats) -> dict[str, Any]:
    """Return the state of a queue."""
    oldest = stats.oldest_pending
    return dataclasses.asdict(stats) | {"oldest_pending": oldest and oldest.isoformat()}
