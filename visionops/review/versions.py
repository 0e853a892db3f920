"""The data versions of a review as training data: which labels count, and where they come from.

A training on version N has the labels of the versions 1 to N. Of an image that was reopened the newest label counts,
and none once it was rejected. A version that is named is the same whenever it is read: rejections count up to the time
when it was made. The newest version, unnamed, has those made since, too.
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
"""Says whether an item must not be trained on, as one that resembles the test split."""


class ReviewVersion(BaseModel):
    """What a training took from a review, and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    use_case: str
    number: int = 0
    """Of the data version; 0 before the first."""
    images: int = 0
    """Labelled images of the versions up to this one."""
    kept_out: int = 0
    """Labelled images that must not be trained on, as those that resemble the test split."""
    since: datetime | None = None
    """Time of the oldest decision."""
    until: datetime | None = None
    """Time of the newest decision."""
    reviewers: dict[str, int] = {}
    """Reviewer to the number of decisions."""
    verdicts: dict[str, int] = {}
    """confirm and correct to the number of decisions."""
    models: dict[str, int] = {}
    """``name version`` of a model to the number of images that it had predicted; "" for those without prediction."""
    digest: str = ""
    """SHA-256 of the decisions: two versions with the same one have the same labels."""
    rejected: tuple[str, ...] = ()
    """SHA-256 of images that are no training data, wherever else they come from."""

    @property
    def lineage(self) -> dict[str, Any]:
        """What a bundle's card says of it."""
        return self.model_dump(mode="json", exclude={"rejected"})

    def explain(self) -> str:
        """Return one sentence."""
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
    """A data version, and its labels as they are added to a data set."""

    version: ReviewVersion
    dataset: Dataset
    """Hashed, without splits; its images lie on this machine."""
    fetched: int
    """Images that were not on this machine before."""


@dataclasses.dataclass(frozen=True, slots=True)
class DecidedLabels:
    """What people have labelled in a review, in a data version or in none yet."""

    use_case: str
    decided: int
    """Number of labelled items."""
    usable: tuple[Decided, ...]
    """Those that may be trained on."""
    drawn: Dataset
    """The random share, hashed; its images lie on this machine. What must not be trained on may judge a model."""

    def unused(self, trained: int) -> int:
        """Return the number of labels that a model which was trained on data version ``trained`` does not have."""
        return sum(one.version is None or one.version > trained for one in self.usable)


def resembles_test(one: Decided) -> bool:
    """Return whether an item must not be trained on: it resembles an image of the test split."""
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
    """Read the labels of the data versions up to one, and bring their images to this machine.

    Args:
        use_case: What is reviewed; None where nothing is yet.
        name: Of the use case.
        cache: Folder for images, by their content.
        number: Of the data version; the newest when None.

    Raises:
        NotFound: There is no such version.
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
    """Read all that is labelled, and bring the images of the random share to this machine.

    The others were chosen because a model was unsure, or for another reason, so that no figure on them says how good
    it is on its traffic.

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
    """Return what a version is, and the labelled items that a training may use.

    Args:
        decided: By `ReviewStore.decided`.
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
    """Return labelled items as a data set whose images lie in ``cache``."""
    pairs = [(one.item, one.decision) for one in found]
    return dataset_of(use_case.name, use_case.task, use_case.scheme, pairs, cache)


def check_task(use_case: UseCase, task: str) -> None:
    """Check that what is reviewed can be learned as ``task``.

    Raises:
        DataError: It is reviewed as another.
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
