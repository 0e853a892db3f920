"""Select the test images that models are compared on, and report what was left out.

A class that came with new labels is unknown to the champion. This does not prevent a comparison: the models are
compared on the classes that both know, and the new class is reported separately.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset
from visionops.data.findings import counted
from visionops.errors import MetricError
from visionops.evaluation.measuring import select_test
from visionops.inference.bundle import BundleCard
from visionops.tasks.spec import task_for

__all__ = ["Comparison", "comparison_set"]


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Test data for a comparison of models."""

    test: Dataset
    """Images of the test split with the labels that every model knows; at least one image."""
    total: int
    """Number of images in the whole test split."""
    new: tuple[str, ...] = ()
    """Classes, or attributes, that a model does not know, named as in `Evaluation.per_class`."""
    left_out: tuple[str, ...] = ()
    """Description of what is missing from ``test``, such as "14 boxes of crack"."""

    @property
    def is_whole(self) -> bool:
        """Return whether it is the unchanged test split."""
        return not self.new and not self.left_out

    def explain(self) -> str:
        """Return one clause with the number of images and what was left out; "" for the whole test split."""
        if self.is_whole:
            return ""
        without = ", ".join(self.left_out) or f"the classes {', '.join(self.new)}"
        return f"on {self.test.num_images} of {counted(self.total, 'test image')}, without {without}"

    def dataset_for(self, card: BundleCard) -> Dataset:
        """Return ``test`` in the form in which the model of ``card`` is scored on it.

        Additional answers of the model become questions without known answers, which are not scored.
        """
        return task_for(card.task).dataset_for(self.test, card)


def comparison_set(
    dataset: Dataset, cards: Sequence[BundleCard], usable: npt.NDArray[np.bool_] | None = None
) -> Comparison:
    """Return the test images and labels that every model can be scored on.

    Boxes of a class that a model does not know are dropped; their images stay. An attribute that a model does not
    answer is dropped, and so are images that have no label left.

    Args:
        dataset: Data set whose test split is used.
        cards: Cards of the models to beat, all of one task.
        usable: Bool (test images,): False where a model was trained or selected on the image. All when None.

    Raises:
        DataError: The test split is empty.
        MetricError: No test image is left.
    """
    test = select_test(dataset)
    total, left_out = test.num_images, []
    if usable is not None and not usable.all():
        count = int((~usable).sum())
        which = "is or looks like one" if count == 1 else "are or look like some"
        left_out.append(f"{counted(count, 'image')} that {which} a model was trained or selected on")
        test = test.take(np.flatnonzero(usable))
    known = task_for(cards[0].task).known_to(test, cards)
    test = known.test
    found = Comparison(test, total, known.new, (*left_out, *known.left_out))
    if not test.num_images:
        raise MetricError(f"{test.name}: no test image is left, without {', '.join(found.left_out)}")
    return found
