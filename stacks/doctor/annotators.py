"""Annotators."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from stacks.annotators.active import label_studio
from stacks.doctor.findings import Examined, Finding, ok, warning

__all__ = ["check_label_studio", "check_label_studio_sdk", "check_review_annotator"]


def check_review_annotator(examined: Examined) -> Iterator[Finding]:
    """Open the review that the environment names; one that is not there yet is not made."""
    from visionops.review_store.opening import DATABASE, open_database, open_review

    database = open_database()
    place, is_file = database.place, not database.is_postgres
    database.close()
    if is_file and not Path(place).expanduser().exists():
        yield ok(f"{place}: is made by the first review")
    else:
        with open_review() as review:
            count = len(review.store.use_cases())
        yield ok(f"the review database answers, {count} use case{'s' * (count != 1)} in review")
    if examined.is_remote and is_file:
        yield warning(
            "the review database is a file of this machine, and steps run elsewhere",
            f"set {DATABASE} to a postgresql:// address",
        )


def check_label_studio(examined: Examined) -> Iterator[Finding]:
    """Ask Label Studio who the token's account is."""
    configuration = dict(examined.component.configuration)
    # The doctor has filled in the values of the secret.
    secret = configuration.get("authentication_secret")
    given = secret if isinstance(secret, dict) else None
    if given is not None:
        configuration["authentication_secret"] = "filled"  # noqa: S105 - no secret
    tool = label_studio(examined.component.name, configuration, given)
    yield ok(f"{tool.title}: token accepted, account {tool.check()}")


def check_label_studio_sdk(examined: Examined) -> Iterator[Finding]:
    """See whether pipelines can run on the stack: ZenML's component imports an SDK, which our commands do not need."""
    del examined
    if find_spec("label_studio_sdk") is None:
        yield warning(
            "label-studio-sdk is not installed: `visionops annotate` works, pipelines do not run on this stack",
            "run pipelines on stack local, or pip install label-studio-sdk",
        )
