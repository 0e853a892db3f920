"""Check annotators."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from stacks.annotators.active import label_studio
from stacks.doctor.findings import CheckResult, Examined, ok, warning
from stacks.review_access import DATABASE, REVIEW_STEPS, review_problem

__all__ = ["check_label_studio", "check_label_studio_sdk", "check_review_annotator"]

_RUN = "run `visionops review stats` in a pod of the namespace"


def check_review_annotator(examined: Examined) -> Iterator[CheckResult]:
    """Open the review that the environment names, without creating a missing one."""
    from visionops.review_store.opening import open_database

    database = open_database()
    place, is_file = database.place, not database.is_postgres
    database.close()
    if is_file and not Path(place).expanduser().exists():
        yield ok(f"{place}: the first review creates it")
    else:
        yield from _look_into(elsewhere=examined.is_remote and not is_file)
    if examined.is_remote and is_file:
        yield warning(
            "the review database is a file on this machine, but steps run elsewhere",
            f"set {DATABASE} to a postgresql:// address",
        )
    elif examined.is_remote:
        yield from _check_steps(examined)


def _look_into(*, elsewhere: bool) -> Iterator[CheckResult]:
    """Open the review; warn instead of failing when steps run elsewhere, as they may reach what this machine cannot."""
    from visionops.review.errors import Unavailable
    from visionops.review_store.opening import open_review

    try:
        with open_review() as review:
            count = len(review.store.use_cases())
    except Unavailable as error:
        if not elsewhere:
            raise
        yield warning(f"{error}; whether steps reach it cannot be checked from here", _RUN)
        return
    yield ok(f"the review database answers, {count} use case{'s' * (count != 1)} in review")
    if elsewhere:
        yield ok("it answers here; whether steps reach it cannot be checked from here")


def _check_steps(examined: Examined) -> Iterator[CheckResult]:
    """Check the settings that the stack file gives to the steps that open the review."""
    if not examined.stack.steps:  # the stack exists in ZenML only, without a file
        return
    if problem := next(filter(None, (review_problem(examined.stack, name) for name in REVIEW_STEPS)), ""):
        observed, _, fix = problem.rpartition("; ")
        yield warning(observed, fix)


def check_label_studio(examined: Examined) -> Iterator[CheckResult]:
    """Check that Label Studio accepts the token, and report its account."""
    configuration = dict(examined.component.configuration)
    # The doctor has filled in the values of the secret.
    secret = configuration.get("authentication_secret")
    given = secret if isinstance(secret, dict) else None
    if given is not None:
        configuration["authentication_secret"] = "filled"  # noqa: S105 - no secret
    tool = label_studio(examined.component.name, configuration, given)
    yield ok(f"{tool.title}: token accepted, account {tool.check()}")


def check_label_studio_sdk(examined: Examined) -> Iterator[CheckResult]:
    """Check for the Label Studio SDK: ZenML's component imports it, so pipelines need it; our commands do not."""
    del examined
    if find_spec("label_studio_sdk") is None:
        yield warning(
            "label-studio-sdk is not installed: `visionops annotate` works, but pipelines cannot run on this stack",
            "run pipelines on stack local, or pip install label-studio-sdk",
        )
