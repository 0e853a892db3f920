"""Check that steps on other machines reach the review that a run needs."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic_core import PydanticCustomError

from stacks.spec import StackSpec
from stacks.steps import DEFAULT, StepSpec
from visionops.addresses import check_store
from visionops.errors import StackError

__all__ = ["DATABASE", "IMAGES", "REVIEW_STEPS", "require_review", "review_problem"]

DATABASE = "VISIONOPS_REVIEW_DATABASE"
IMAGES = "VISIONOPS_REVIEW_IMAGES"
REVIEW_STEPS = ("read_reviewed", "score_labelled_traffic", "index_images")
"""Steps that open the review."""


def require_review(spec: StackSpec, steps: Iterable[str]) -> None:
    """Check that the steps of a run reach the review: without an address each pod would create an empty one.

    Args:
        steps: Names of the run's steps.

    Raises:
        StackError: They do not, or an address contains a password, which the pod's specification would show.
    """
    for name in sorted(set(steps) & set(REVIEW_STEPS)):
        if problem := review_problem(spec, name):
            raise StackError(f"stack {spec.name!r}: {problem}")


def review_problem(spec: StackSpec, name: str) -> str:
    """Return why the step ``name`` does not reach the review, and the fix, in one line; "" if it may."""
    step = spec.step(name)
    for variable, kind in ((DATABASE, "postgresql://"), (IMAGES, "s3://")):
        value = step.environment.get(variable, "")
        if not value and _is_given_more(step, spec.steps.get(DEFAULT, StepSpec())):
            continue  # a Secret or a ConfigMap may set it
        if not value.startswith(kind):
            said = "is not set" if not value else f"is {value}, which is on this machine"
            return f"step {name} reads the review in a pod, but {variable} {said}; set it to {kind}…"
        try:
            check_store(value)
        except PydanticCustomError as error:
            return f"steps.{name}: {variable} {error.message()}"
        except ValueError as error:
            return f"steps.{name}: {variable} {error}"
    return ""


def _is_given_more(step: StepSpec, default: StepSpec) -> bool:
    return bool(set(step.env_from) - set(default.env_from))
