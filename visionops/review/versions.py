"""Read the data versions of a review as training data: the labels that count, and their origin.

A training on version N has the labels of the versions 1 to N. For a reopened image the newest label counts, and none
after a rejection. A version that is requested by number is always the same: rejections count up to the time when it was
made. The newest version, requested without a number, includes later rejections.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from visionops.data.dataset import Dataset
from visionops.data.findings import counted
from visionops.errors import DataError
from visionops.review.checks import digest_of
from visionops.review.errors import NotFound
from visionops.review.exchange import dataset_of
from visionops.review.image_cache import cache_images
from visionops.review.items import UseCase
from visionops.review.outcomes import Decided
from visionops.review.service import Review

__all__ = [
    "DecidedLabels",
    "KeepsOut",
    "ReviewVersion",
    "Reviewed",
    "check_task",
    "collect",
    "dataset_from",
    "read_labels",
    "read_version",
    "resembles_test",
]

KeepsOut = Callable[[Decided], bool]
"""Function that returns whether an item must not be trained on, for example because it resembles the test split."""


class ReviewVersion(BaseModel):
    """Data that a training used from a review, with its origin."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    use_case: str
    number: int = 0
    """Number of the data version; 0 before the first."""
    images: int = 0
    """Number of labelled images in the versions up to this one."""
    kept_out: int = 0
    """Number of labelled images that must not be trained on, such as those that resemble the test split."""
    since: datetime | None = None
    """Time of the oldest decision."""
    until: datetime | None = None
    """Time of the newest decision."""
    reviewers: dict[str, int] = {}
    """Number of decisions by reviewer."""
    verdicts: dict[str, int] = {}
    """Number of decisions by verdict, confirm or correct."""
    models: dict[str, int] = {}
    """Number of images by the model that predicted them, as ``name version``; "" for those without a prediction."""
    digest: str = ""
    """SHA-256 of the decisions: versions with equal digests have equal labels."""
    rejected: tuple[str, ...] = ()
    """SHA-256 of images that are excluded from training data, whatever their source."""

    @property
    def lineage(self) -> dict[str, Any]:
        """Return the part of a bundle's card that describes this version."""
        return self.model_dump(mode="json", exclude={"rejected"})

    def explain(self) -> str:
        """Return a one-sentence summary."""
        if not self.number:
            return f"review of {self.use_case}: no data version yet"
        who = ", ".join(f"{name} {count}" for name, count in self.reviewers.items()) or "nobody"
        kept_out = f"; {counted(self.kept_out, 'image')} kept out" if self.kept_out else ""
        return (
            f"review of {self.use_case}: data version {self.number}, {counted(self.images, 'image')} "
            f"(decided by {who}){kept_out}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Reviewed:
    """A data version with its labels in the form of a data set."""

    version: ReviewVersion
    dataset: Dataset
    """Data set with hashes, without splits; its images are on this machine."""
    fetched: int
    """Number of images that were not on this machine before."""


@dataclasses.dataclass(frozen=True, slots=True)
class DecidedLabels:
    """All labels that people gave in a review, whether or not in a data version."""

    use_case: str
    decided: int
    """Number of labelled items."""
    usable: tuple[Decided, ...]
    """Items that may be used for training."""
    drawn: Dataset
    """Random share with hashes; its images are on this machine. Images excluded from training may be used for
    evaluation."""

    def unused(self, trained: int) -> int:
        """Return the number of labels that a model trained on data version ``trained`` does not have."""
        return sum(one.version is None or one.version > trained for one in self.usable)


def resembles_test(one: Decided) -> bool:
    """Return whether an item must not be trained on because it resembles an image of the test split."""
    return one.item.is_held_out


def read_version(
    review: Review,
    use_case: UseCase | None,
    name: str,
    cache: Path,
    *,
    number: int | None = None,
    keeps_out: KeepsOut = resembles_test,
) -> Reviewed:
    """Read the labels of the data versions up to one, and download their images to this machine.

    Args:
        use_case: Use case in review; None where it has no review yet.
        name: Name of the use case.
        cache: Folder for images, by their content.
        number: Number of the data version; the newest when None.

    Raises:
        NotFound: The version does not exist.
        Unavailable: Database or images cannot be reached.
        DataError: ``cache`` cannot be written.
    """
    if use_case is None:
        if number is not None:
            raise NotFound(f"use case {name}: has no data version {number}")
        return Reviewed(ReviewVersion(use_case=name), _nothing(name), 0)
    made = {version.number: version for version in review.store.versions(name)}
    if number is not None and number not in made:
        raise NotFound(f"use case {name}: has no data version {number}")
    newest = max(made, default=0) if number is None else number
    until = None if number is None else made[number].at
    version, found = collect(name, newest, review.store.decided(name, newest, until), keeps_out)
    fetched = cache_images(review.images, [one.item.image for one in found], cache)
    return Reviewed(version, dataset_from(use_case, found, cache), fetched)


def read_labels(review: Review, use_case: UseCase, cache: Path, keeps_out: KeepsOut = resembles_test) -> DecidedLabels:
    """Read all labels, and download the images of the random share to this machine.

    The other images were selected, for example because a model was unsure, so no metric on them measures its quality on
    its traffic.

    Args:
        cache: Folder for images, by their content.

    Raises:
        Unavailable: Database or images cannot be reached.
        DataError: ``cache`` cannot be written.
    """
    labelled = [one for one in review.store.decided(use_case.name) if one.decision.verdict.has_label]
    drawn = [one for one in labelled if one.is_random]
    cache_images(review.images, [one.item.image for one in drawn], cache)
    usable = tuple(one for one in labelled if not keeps_out(one))
    return DecidedLabels(use_case.name, len(labelled), usable, dataset_from(use_case, drawn, cache))


def collect(
    name: str, number: int, decided: Sequence[Decided], keeps_out: KeepsOut = resembles_test
) -> tuple[ReviewVersion, list[Decided]]:
    """Return the description of a version, and the labelled items that a training may use.

    Args:
        decided: Items from `ReviewStore.decided`.
    """
    labelled = [one for one in decided if one.decision.verdict.has_label]
    found = [one for one in labelled if not keeps_out(one)]
    times = [one.decision.at for one in found]
    version = ReviewVersion(
        use_case=name,
        number=number,
        images=len(found),
        kept_out=len(labelled) - len(found),
        since=min(times, default=None),
        until=max(times, default=None),
        reviewers=_counts(one.decision.reviewer for one in found),
        verdicts=_counts(one.decision.verdict.value for one in found),
        models=_counts(_model(one) for one in found),
        digest=digest_of([one.decision.id for one in found]) if found else "",
        rejected=tuple(one.item.image.sha256 for one in decided if not one.decision.verdict.has_label),
    )
    return version, found


def dataset_from(use_case: UseCase, found: Sequence[Decided], cache: Path) -> Dataset:
    """Return labelled items as a data set whose images are in ``cache``."""
    pairs = [(one.item, one.decision) for one in found]
    return dataset_of(use_case.name, use_case.task, use_case.scheme, pairs, cache)


def check_task(use_case: UseCase, task: str) -> None:
    """Check that the reviewed labels can be used to train ``task``.

    Raises:
        DataError: It is reviewed as another task.
    """
    if use_case.task != task:
        raise DataError(
            f"data.additions: {use_case.name} is reviewed as {use_case.task}, not {task}; set data.additions.use_case "
            "to a use case of the same task"
        )


def _nothing(name: str) -> Dataset:
    return Dataset.from_columns(name, (), {"key": []}, {})


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _model(one: Decided) -> str:
    predicted = one.item.predicted
    return "" if predicted is None else f"{predicted.model} {predicted.version}"
