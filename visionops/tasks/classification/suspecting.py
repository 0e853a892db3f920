"""Find classes of images that are probably wrong: the model predicts another class with high confidence.

The order is by self-confidence, the model's probability of the given class (Northcutt, Jiang and Chuang, Confident
learning, JAIR 70, 2021). A model trained on a wrong label doubts it less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from visionops.tasks.spec import Suspicion

__all__ = ["suspect_answers"]


def suspect_answers(
    labels: Sequence[Mapping[str, str | None]], answers: Sequence[Mapping[str, Mapping[str, Any]]]
) -> dict[int, Suspicion]:
    """Return the labels that are probably wrong, by row; for several questions the worst one.

    Args:
        labels: Question to class, one mapping for each image; None where unknown.
        answers: Question to the model's answer with its ``probabilities``.
    """
    found = {}
    for row, (label, answer) in enumerate(zip(labels, answers, strict=True)):
        worst = min(_doubts(label, answer), key=lambda doubt: doubt.quality, default=None)
        if worst is not None:
            found[row] = worst
    return found


def _doubts(label: Mapping[str, str | None], answer: Mapping[str, Mapping[str, Any]]) -> Iterator[Suspicion]:
    for question, given in label.items():
        if given is None or question not in answer:
            continue
        shares: Mapping[str, float] = answer[question]["probabilities"]
        best, quality = max(shares, key=shares.__getitem__), shares.get(given, 0.0)
        if best != given:
            about = f"{question} " if len(label) > 1 else ""
            yield Suspicion(
                quality, f"{about}labelled {given} ({quality:.2f}), the model says {best} ({shares[best]:.2f})"
            )
