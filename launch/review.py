"""The commands below `visionops review`: what a person at a terminal does with reviews."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.terminal import exit_code

# Not above: `visionops --help` must wait neither for SQLAlchemy nor for image libraries.
if TYPE_CHECKING:
    from visionops.config import Config
    from visionops.data.dataset import Dataset
    from visionops.review.items import ReviewItem
    from visionops.review.service import Review

__all__ = ["review_app"]

review_app = typer.Typer(
    help="Images that people confirm, correct or reject.",
    epilog="Where they are kept: VISIONOPS_REVIEW_DATABASE and VISIONOPS_REVIEW_IMAGES; see docs/how-to/review.md.",
    no_args_is_help=True,
)
_MOST_REFUSALS = 10

Name = Annotated[str, typer.Argument(help="Name of the use case, as in its file.", show_default=False)]
Reviewer = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who does it (default: your account).", show_default=False)
]


@review_app.command("import", epilog="Example: visionops review import --config configs/steel.yaml /data/new")
def _import(
    folder: Annotated[Path, typer.Argument(help="A folder of images.", show_default=False)],
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="FORMAT", help="Take its labels, too: auto, coco, yolo, csv, …", show_default=False
        ),
    ] = None,
    decided: Annotated[bool, typer.Option("--decided", help="Its labels are decisions, not proposals.")] = False,
    reviewer: Reviewer = None,
) -> None:
    """Take a folder of images in; again, and nothing changes."""
    raise typer.Exit(exit_code(lambda: _import_folder(folder, config, labels, reviewer, decided=decided)))


@review_app.command("export", epilog="Example: visionops review export steel /data/steel-1 --format coco")
def _export(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Where images and labels go; not there yet.", show_default=False)],
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help="coco, yolo, csv or fiftyone.")] = "coco",
    version: Annotated[
        int | None,
        typer.Option(metavar="N", help="Write this data version again (default: make the next).", show_default=False),
    ] = None,
    reviewer: Reviewer = None,
) -> None:
    """Make a data version of what is decided and in none yet, and write it."""
    raise typer.Exit(exit_code(lambda: _export_version(name, folder, format_, version, reviewer)))


@review_app.command("list", epilog="Example: visionops review list steel --state pending")
def _list(
    name: Annotated[str | None, typer.Argument(help="Name of a use case (default: all).", show_default=False)] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="pending, claimed, decided or exported; repeatable.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many.")] = 20,
    after: Annotated[
        str | None, typer.Option(metavar="ITEM", help="Go on behind this item.", show_default=False)
    ] = None,
) -> None:
    """List items, newest first."""
    raise typer.Exit(exit_code(lambda: _list_items(name, state or [], limit, after)))


@review_app.command("show", epilog="Example: visionops review show 2064b84b9b987c6357ede46641d4b7c0")
def _show(item: Annotated[str, typer.Argument(help="Id of an item, as `list` has it.", show_default=False)]) -> None:
    """Show the history of an item."""
    raise typer.Exit(exit_code(lambda: _show_item(item)))


@review_app.command("stats")
def _stats(
    name: Annotated[str | None, typer.Argument(help="Name of a use case (default: all).", show_default=False)] = None,
) -> None:
    """Count items by state, and decisions by verdict and reviewer."""
    raise typer.Exit(exit_code(lambda: _print_stats(name)))


@review_app.command("sweep")
def _sweep(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False) -> None:
    """Remove images that an intake which died has left, a day after."""
    raise typer.Exit(exit_code(lambda: _sweep_images(dry_run=dry_run)))


@review_app.command("migrate")
def _migrate() -> None:
    """Bring the database to the schema of this version; make a backup first."""
    raise typer.Exit(exit_code(_migrate_database))


@contextmanager
def _opened() -> Iterator[Review]:
    from visionops.review_store.opening import open_review

    with open_review() as review:
        yield review


def _import_folder(folder: Path, config: Path, labels: str | None, reviewer: str | None, *, decided: bool) -> None:
    from visionops.config import load_config
    from visionops.errors import ConfigError
    from visionops.review.exchange import take_in
    from visionops.review.states import Actor

    if decided and labels is None:
        raise ConfigError("--decided: needs labels; add --labels auto")
    use_case = load_config(config)
    dataset = _read(folder, labels, use_case)
    with _opened() as review:
        _know(review, use_case)
        actor, now = Actor(reviewer or getpass.getuser()), datetime.now(UTC)
        found = take_in(review, use_case.name, dataset, actor, now, labelled=labels is not None, decided=decided)
    for line in found.refused[:_MOST_REFUSALS]:
        typer.echo(f"refused   {line}")
    if len(found.refused) > _MOST_REFUSALS:
        typer.echo(f"refused   {len(found.refused) - _MOST_REFUSALS} more")
    typer.echo(f"images    {found.new} new, {found.known} known, {len(found.refused)} refused")
    if decided:
        typer.echo(f"decided   {found.decided}")


def _read(folder: Path, labels: str | None, use_case: Config) -> Dataset:
    """The images of a folder, with their labels where they are wanted."""
    from visionops.data.dataset import Dataset
    from visionops.data.files import walk_files
    from visionops.data.formats import read_dataset
    from visionops.data.settings import DataConfig, FolderSource, Format
    from visionops.errors import ConfigError, DataError
    from visionops.tasks.spec import task_for

    root = folder.expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if labels is None:
        names = [file.name for file in walk_files(root) if file.is_image]
        if not names:
            raise DataError(f"{root}: holds no images")
        return Dataset.from_columns(use_case.name, (), {"key": names, "path": [str(root / n) for n in names]}, {})
    if labels not in set(Format):
        raise ConfigError(f"--labels: unknown format {labels!r}; expected one of {', '.join(Format)}")
    data = DataConfig(source=FolderSource(kind="folder", path=root), format=Format(labels))
    return read_dataset(root, data, use_case.name, task_for(use_case.task).fit_dataset)


def _know(review: Review, use_case: Config) -> None:
    """Put the classes of the use case's data set there, unless they are."""
    from visionops.data.formats import read_dataset
    from visionops.data.sources import fetch
    from visionops.home import visionops_home
    from visionops.review.exchange import scheme_of
    from visionops.review.items import UseCase
    from visionops.tasks.spec import task_for

    if use_case.name in {known.name for known in review.store.use_cases()}:
        return
    root = fetch(use_case.data.source, visionops_home() / "data")
    dataset = read_dataset(root, use_case.data, use_case.name, task_for(use_case.task).fit_dataset)
    review.put_use_case(UseCase(use_case.name, use_case.task, scheme_of(dataset)))


def _export_version(name: str, folder: Path, format_: str, version: int | None, reviewer: str | None) -> None:
    from visionops.data.settings import Format
    from visionops.errors import ConfigError, DataError
    from visionops.review.exchange import EXPORTS, check_export, write_export
    from visionops.review.states import Actor

    if format_ not in {one.value for one in EXPORTS}:
        raise ConfigError(f"--format: unknown format {format_!r}; expected one of {', '.join(EXPORTS)}")
    with _opened() as review:
        check_export(review, name, Format(format_), folder)
        if version is None:
            now = datetime.now(UTC)
            made = review.export(name, Actor(reviewer or getpass.getuser()), key=f"export {now.isoformat()}", now=now)
            if made is None:
                raise DataError(f"{name}: nothing decided is left to export; --version N writes an earlier version")
            version = made.number
        found = review.store.version(name, version)
        typer.echo(f"version   {version}: {len(found)} images")
        write_export(review, name, found, Format(format_), folder)
    typer.echo(f"written   {folder}")


def _list_items(name: str | None, states: list[str], limit: int, after: str | None) -> None:
    from visionops.errors import ConfigError
    from visionops.review.ports import Wanted
    from visionops.review.states import State

    if unknown := [state for state in states if state not in set(State)]:
        raise ConfigError(f"--state: unknown state {unknown[0]!r}; expected one of {', '.join(State)}")
    with _opened() as review:
        if name is not None:
            review.store.use_case(name)
        wanted = Wanted(name, [State(state) for state in states], limit=limit, after=after)
        items = review.store.items(wanted)
    if items:
        typer.echo(f"{'item':<32}  {'state':<8}  {'added':<16}  name")
    for item in items:
        typer.echo(_line(item))
    if len(items) == limit:
        typer.echo(f"more: add --after {items[-1].id}")


def _line(item: ReviewItem) -> str:
    from visionops.errors import one_line

    name = one_line(item.first.name or item.first.reference)
    shown = name if len(name) <= 18 else f"…{name[-17:]}"
    return f"{item.id:<32}  {item.status.state.value:<8}  {item.added:%Y-%m-%d %H:%M}  {shown}".rstrip()


def _show_item(name: str) -> None:
    from visionops.errors import one_line

    with _opened() as review:
        item, history = review.store.item(name), review.store.history(name)
        decisions = review.store.decisions(name)
    image = item.image
    typer.echo(f"item      {item.id} of {one_line(item.use_case)}, {item.status.state.value}")
    typer.echo(f"image     {image.sha256}\n          {image.format}, {image.width} x {image.height} pixels")
    typer.echo(f"from      {item.first.origin.value} {one_line(item.first.reference or item.first.name)}".rstrip())
    for reason in item.first.reasons:
        typer.echo(f"priority  {reason.value:+.3f} {one_line(reason.kind)} {one_line(reason.text)}".rstrip())
    for row in history:
        details = ", ".join(f"{key} {value}" for key, value in row.details.items() if value not in {None, ""})
        typer.echo(one_line(f"{row.at:%Y-%m-%d %H:%M:%S}  {row.action} by {row.actor}  {details}").rstrip())
    for decision in decisions:
        typer.echo(one_line(f"round {decision.round}   {decision.verdict.value}: {decision.label or decision.reason}"))


def _print_stats(name: str | None) -> None:
    from visionops.errors import one_line

    with _opened() as review:
        names = [name] if name is not None else [use_case.name for use_case in review.store.use_cases()]
        found = [(one, review.store.stats(one)) for one in names]
    if not found:
        typer.echo("no use case is in review yet; `visionops review import` begins one")
    for one, stats in found:
        typer.echo(f"{one_line(one)}")
        typer.echo(f"  items      {', '.join(f'{count} {state}' for state, count in stats.states.items())}")
        typer.echo(f"  decisions  {', '.join(f'{count} {verdict}' for verdict, count in stats.verdicts.items())}")
        for reviewer, count in stats.reviewers.items():
            typer.echo(f"  reviewer   {one_line(reviewer)}: {count}")
        typer.echo(f"  unused     {stats.unused} with a label that no data version has; {stats.versions} versions")
        if stats.oldest_pending:
            typer.echo(f"  oldest     waits since {stats.oldest_pending:%Y-%m-%d %H:%M} UTC")


def _sweep_images(*, dry_run: bool) -> None:
    from visionops.review.sweep import sweep

    with _opened() as review:
        found = sweep(review.store, review.images, datetime.now(UTC), dry_run=dry_run)
    typer.echo(f"images    {found.images}, {len(found.orphans)} of them left by an intake that died")
    typer.echo(f"removed   {found.removed} images, {found.drafts} drafts")


def _migrate_database() -> None:
    from visionops.review_store.opening import open_database
    from visionops.review_store.schema import migrate

    database = open_database()
    try:
        before, now = migrate(database)
    finally:
        database.close()
    was = "made" if before is None else "is the newest already" if before == now else f"was {before}"
    typer.echo(f"schema    {now} ({was}) of {database.place}")
