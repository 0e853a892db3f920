"""Define the commands of `visionops annotate`, which exchange items and decisions with the active stack's annotator."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from launch.terminal import exit_code

__all__ = ["annotate_app"]

annotate_app = typer.Typer(
    help="Exchange items with the annotator of the active stack.",
    epilog="`zenml stack set` selects a stack with another annotator; see docs/how-to/annotators.md.",
    no_args_is_help=True,
)
_MOST_LINES = 10

Name = Annotated[str, typer.Argument(help="Name of the use case, as in its file.", show_default=False)]


@annotate_app.command("push", epilog="Example: visionops annotate push steel --limit 100")
def _push(
    name: Name,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Push at most N items.", show_default=False)
    ] = None,
) -> None:
    """Push pending items with their predictions, the most urgent first; existing items stay."""
    raise typer.Exit(exit_code(lambda: _push_items(name, limit)))


@annotate_app.command("pull", epilog="Example: visionops annotate pull steel")
def _pull(name: Name) -> None:
    """Pull annotations as decisions of their authors; a second pull changes nothing."""
    raise typer.Exit(exit_code(lambda: _pull_decisions(name)))


def _push_items(name: str, limit: int | None) -> None:
    from stacks.annotators.active import active_tool
    from visionops.review.annotation.exchange import push
    from visionops.review_store.opening import open_review

    tool = active_tool()
    with open_review() as review:
        found = push(review, tool, name, limit)
    typer.echo(f"annotator {tool.title}")
    more = f", {found.waiting} left by --limit" if found.waiting else ""
    typer.echo(f"items     {found.new} pushed, {found.present} already there{more}")


def _pull_decisions(name: str) -> None:
    from stacks.annotators.active import active_tool
    from visionops.errors import one_line
    from visionops.review.annotation.exchange import pull
    from visionops.review_store.opening import open_review

    tool = active_tool()
    with open_review() as review:
        found = pull(review, tool, name, datetime.now(UTC))
    typer.echo(f"annotator {tool.title}")
    for what, lines in (("conflict", found.conflicts), ("refused", found.refused)):
        for line in lines[:_MOST_LINES]:
            typer.echo(f"{what:<9} {one_line(line)}")
        if len(lines) > _MOST_LINES:
            typer.echo(f"{what:<9} {len(lines) - _MOST_LINES} more")
    typer.echo(f"decided   {found.confirmed} confirmed, {found.corrected} corrected, {found.rejected} rejected")
    typer.echo(f"others    {found.known} known, {len(found.conflicts)} in conflict, {len(found.refused)} refused")
