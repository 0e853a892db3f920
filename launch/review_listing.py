"""Print the contents of a review to a terminal."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import typer

# Imported late, so that `visionops --help` does not wait for SQLAlchemy and image libraries.
if TYPE_CHECKING:
    from visionops.review.items import ReviewItem

__all__ = ["list_items", "print_agreement", "print_stats", "show_item"]


def list_items(name: str | None, states: list[str], limit: int, after: str | None) -> None:
    """Print a page of items, newest first.

    Raises:
        ConfigError: A state is unknown.
        ReviewError: The use case, or the item to continue after, is unknown.
    """
    from visionops.errors import ConfigError
    from visionops.review.ports import ItemFilter
    from visionops.review.states import State
    from visionops.review_store.opening import open_review

    if unknown := [state for state in states if state not in set(State)]:
        raise ConfigError(f"--state: unknown state {unknown[0]!r}; expected one of {', '.join(State)}")
    with open_review() as review:
        if name is not None:
            review.store.use_case(name)
        wanted = ItemFilter(name, [State(state) for state in states], limit=limit, after=after)
        items = review.store.items(wanted)
    if not items:
        typer.echo(f"no items{' after this one' if after else ''} in {', '.join(states) or 'any state'}")
    else:
        typer.echo(f"{'item':<32}  {'state':<8}  {'added':<16}  name")
    for item in items:
        typer.echo(_line(item))
    if len(items) == limit:
        typer.echo(f"more: add --after {items[-1].id}")


def _line(item: ReviewItem) -> str:
    from visionops.errors import one_line

    name = one_line(item.first.name or item.first.reference)
    name = f"(like test) {name}" if item.is_held_out else name
    shown = name if len(name) <= 18 else f"{name[:12]}…{name[-5:]}" if name.startswith("(") else f"…{name[-17:]}"
    return f"{item.id:<32}  {item.status.state.value:<8}  {item.added:%Y-%m-%d %H:%M}  {shown}".rstrip()


def show_item(name: str, *, shows_all: bool) -> None:
    """Print an item with its history; only ``shows_all`` includes opinions that are hidden from reviewers.

    Raises:
        ReviewError: The item is unknown.
    """
    from launch.similar import describe_likeness
    from visionops.errors import one_line
    from visionops.review.states import Actor
    from visionops.review_store.opening import open_review

    with open_review() as review:
        item, history = review.store.item(name), review.store.history(name)
        decisions = review.store.decisions(name)
        opinions = review.opinions(name, Actor(getpass.getuser(), is_admin=shows_all))
    image = item.image
    typer.echo(f"item      {item.id} of {one_line(item.use_case)}, {item.status.state.value}")
    typer.echo(f"image     {image.sha256}\n          {image.format}, {image.width} x {image.height} pixels")
    typer.echo(f"from      {item.first.origin.value} {one_line(item.first.reference or item.first.name)}".rstrip())
    if item.likeness:
        typer.echo(f"similar   {one_line(describe_likeness(item.likeness, is_held_out=item.is_held_out))}")
    for reason in item.reasons:
        typer.echo(f"priority  {reason.value:+.3f} {one_line(reason.kind)} {one_line(reason.text)}".rstrip())
    for row in history:
        details = ", ".join(f"{key} {value}" for key, value in row.details.items() if value not in {None, ""})
        typer.echo(one_line(f"{row.at:%Y-%m-%d %H:%M:%S}  {row.action} by {row.actor}  {details}").rstrip())
    for one in opinions:
        by = f" by {one.reviewer}" if one.reviewer else ""
        typer.echo(one_line(f"opinion   round {one.round}{by}: {one.verdict.value}: {one.label or one.reason}"))
    for decision in decisions:
        typer.echo(one_line(f"round {decision.round}   {decision.verdict.value}: {decision.label or decision.reason}"))


def print_stats(name: str | None) -> None:
    """Print statistics of the queue of one use case, or of all.

    Raises:
        ReviewError: The use case is unknown.
    """
    from visionops.errors import one_line
    from visionops.review_store.opening import open_review

    with open_review() as review:
        names = [name] if name is not None else [use_case.name for use_case in review.store.use_cases()]
        found = [(one, review.store.stats(one)) for one in names]
    if not found:
        typer.echo("no use case is in review yet; `visionops review import` adds one")
    for one, stats in found:
        typer.echo(f"{one_line(one)}")
        typer.echo(f"  items      {', '.join(f'{count} {state}' for state, count in stats.states.items())}")
        typer.echo(f"  decisions  {', '.join(f'{count} {verdict}' for verdict, count in stats.verdicts.items())}")
        for reviewer, count in stats.reviewers.items():
            typer.echo(f"  reviewer   {one_line(reviewer)}: {count}")
        if stats.held_out:
            typer.echo(f"  held out   {stats.held_out} with a label that resemble images of the test split")
        typer.echo(f"  unused     {stats.unused} with a label that no data version has; {stats.versions} versions")
        if stats.second or stats.third:
            typer.echo(f"  waiting    {stats.second} for a second opinion, {stats.third} for a third")
        if stats.oldest_pending:
            typer.echo(f"  oldest     waiting since {stats.oldest_pending:%Y-%m-%d %H:%M} UTC")


def print_agreement(name: str) -> None:
    """Print the agreement of a use case's reviewers.

    Raises:
        ReviewError: The use case is unknown.
    """
    from launch.agreement_table import agreement_lines
    from visionops.review.agreement import agreement_of
    from visionops.review_store.opening import open_review

    with open_review() as review:
        found = agreement_of(review.store, name)
    for line in agreement_lines(found):
        typer.echo(line)
