"""Annotators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stacks.annotators.active import label_studio
from stacks.doctor.findings import Examined, Finding, ok, warning

__all__ = ["check_label_studio", "check_review_annotator"]


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
