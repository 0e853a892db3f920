"""Implement `visionops review export`: write a data version, and track it with DVC."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import typer

__all__ = ["Tracking", "export_version"]


class Tracking(NamedTuple):
    """Options for tracking an export with DVC."""

    push: bool
    remote: str | None
    """DVC remote; None for the repository's default."""


def export_version(
    name: str, folder: Path, format_: str, version: int | None, reviewer: str | None, tracking: Tracking | None
) -> None:
    """Create a data version and write it, or write an earlier one again.

    Args:
        version: Number of an earlier version.
        tracking: DVC options; None does not track it.

    Raises:
        ConfigError: The format is unknown.
        DataError: The folder exists, cannot be written or cannot be tracked, or nothing is left to export.
        ReviewError: The use case or version is unknown, or the database does not answer.
    """
    from visionops.data.dvc_tracking import require_repository, track
    from visionops.data.settings import Format
    from visionops.errors import ConfigError, DataError
    from visionops.review.exchange import EXPORTS, check_export, write_export
    from visionops.review.states import Actor
    from visionops.review_store.opening import open_review

    if format_ not in {one.value for one in EXPORTS}:
        raise ConfigError(f"--format: unknown format {format_!r}; expected one of {', '.join(EXPORTS)}")
    with open_review() as review:
        check_export(review, name, Format(format_), folder)
        if tracking:
            require_repository(folder.absolute())
        if version is None:
            now = datetime.now(UTC)
            made = review.export(name, Actor(reviewer or getpass.getuser()), key=f"export {now.isoformat()}", now=now)
            left_out = review.store.stats(name).held_out
            if made is None:
                also = f" ({left_out} resemble images of the test split)" if left_out else ""
                raise DataError(
                    f"{name}: no new decisions to export{also}; use --version N to write an earlier version"
                )
            version = made.number
            if left_out:
                typer.echo(f"left out  {left_out} that resemble images of the test split")
        found = review.store.version(name, version)
        typer.echo(f"version   {version}: {len(found)} images")
        write_export(review, name, found, Format(format_), folder)
    if tracking:
        tracked = track(folder.absolute(), push=tracking.push, remote=tracking.remote)
        typer.echo(f"tracked   {tracked}{', and pushed' if tracking.push else ''}; commit it to Git")
    typer.echo(f"written   {folder}")
