"""Classes of images that are probably wrong, by a model's answers: confident learning.

Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels, JAIR 70, 2021; cleanlab is
its authors' program. A model that has learned from a wrong label doubts it less: it finds fewer errors there, not
others.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visionops.tasks.labelling import Question
from visionops.tasks.spec import Suspicion

__all__ = ["suspect_answers"]


def suspect_answers(
    labels: Sequence[Mapping[str, str | None]],
    answers: Sequence[Mapping[str, Mapping[str, Any]]],
    questions: Sequence[Question],
) -> dict[int, Suspicion]:
    """Return what is probably wrong, by row.

    Args:
        labels: Question to class, one an image; None where it is not known.
        answers: Question to the model's answer with its ``probabilities``.
    """
    found: dict[int, Suspicion] = {}
    for question in questions:
        rows = [row for row, label in enumerate(labels) if label[question.name] and question.name in answers[row]]
        if not rows:
            continue
        given = [str(labels[row][question.name]) for row in rows]
        shares = [answers[row][question.name]["probabilities"] for row in rows]
        for place, quality in _issues(question.class_names, given, shares).items():
            row, best = rows[place], max(shares[place], key=shares[place].__getitem__)
            about = f"{question.name} " if len(questions) > 1 else ""
            text = f"{about}labelled {given[place]} ({quality:.2f}), the model says {best} ({shares[place][best]:.2f})"
            if row not in found or quality < found[row].quality:
                found[row] = Suspicion(quality, text)
    return found


def _issues(names: Sequence[str], given: Sequence[str], shares: Sequence[Mapping[str, float]]) -> dict[int, float]:
    """Return the probability of the given class where it is probably wrong."""
    from cleanlab.filter import find_label_issues

    class_ids = np.array([names.index(one) for one in given])
    probabilities = np.array([[share.get(name, 0.0) for name in names] for share in shares], dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with few images, of which less is found
        wrong = find_label_issues(class_ids, probabilities, n_jobs=1)
    return {row: float(probabilities[row, class_ids[row]]) for row in np.flatnonzero(wrong).tolist()}
