"""The commands below `visionops review`: what a person at a terminal does with reviews."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
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
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help="coco, yolo or csv.")] = "coco",
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
def _show(
    item: Annotated[str, typer.Argument(help="Id of an item, as `list` has it.", show_default=False)],
    opinions: Annotated[
        bool, typer.Option("--opinions", help="Show opinions that reviewers must not see yet, too.")
    ] = False,
) -> None:
    """Show the history of an item."""
    raise typer.Exit(exit_code(lambda: _show_item(item, shows_all=opinions)))


@review_app.command("stats")
def _stats(
    name: Annotated[str | None, typer.Argument(help="Name of a use case (default: all).", show_default=False)] = None,
) -> None:
    """Count items by state, and decisions by verdict and reviewer."""
    raise typer.Exit(exit_code(lambda: _print_stats(name)))


@review_app.command("agreement", epilog="Example: visionops review agreement steel")
def _agreement(name: Name) -> None:
    """Show how far reviewers agree who answered the same images blind."""
    raise typer.Exit(exit_code(lambda: _print_agreement(name)))


@review_app.command("audit", epilog="Example: visionops review audit --config configs/casting.yaml --limit 50")
def _audit(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many, the worst first.")] = 100,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of a bundle (default: the champion).", show_default=False),
    ] = None,
    reviewer: Reviewer = None,
) -> None:
    """Queue the labels of the data set that a model contradicts most."""
    raise typer.Exit(exit_code(lambda: _audit_labels(config, limit, model, reviewer)))


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
    _print_refused(found.refused)
    typer.echo(f"images    {found.new} new, {found.known} known, {len(found.refused)} refused")
    if decided:
        typer.echo(f"decided   {found.decided}")


def _print_refused(lines: Sequence[str]) -> None:
    for line in lines[:_MOST_REFUSALS]:
        typer.echo(f"refused   {line}")
    if len(lines) > _MOST_REFUSALS:
        typer.echo(f"refused   {len(lines) - _MOST_REFUSALS} more")


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
    """Put the classes of the use case's data set there, unless they are, and the share of second opinions."""
    from visionops.review.exchange import scheme_of
    from visionops.review.items import UseCase

    if use_case.name not in {known.name for known in review.store.use_cases()}:
        review.put_use_case(UseCase(use_case.name, use_case.task, scheme_of(_own_data(use_case))))
    review.set_second_share(use_case.name, use_case.review.second_opinion.share)


def _own_data(use_case: Config) -> Dataset:
    """The use case's data set, fetched."""
    from visionops.data.formats import read_dataset
    from visionops.data.sources import fetch
    from visionops.home import visionops_home
    from visionops.tasks.spec import task_for

    root = fetch(use_case.data.source, visionops_home() / "data")
    return read_dataset(root, use_case.data, use_case.name, task_for(use_case.task).fit_dataset)


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


def _show_item(name: str, *, shows_all: bool) -> None:
    from visionops.errors import one_line
    from visionops.review.states import Actor

    with _opened() as review:
        item, history = review.store.item(name), review.store.history(name)
        decisions = review.store.decisions(name)
        opinions = review.opinions(name, Actor(getpass.getuser(), is_admin=shows_all))
    image = item.image
    typer.echo(f"item      {item.id} of {one_line(item.use_case)}, {item.status.state.value}")
    typer.echo(f"image     {image.sha256}\n          {image.format}, {image.width} x {image.height} pixels")
    typer.echo(f"from      {item.first.origin.value} {one_line(item.first.reference or item.first.name)}".rstrip())
    for reason in item.first.reasons:
        typer.echo(f"priority  {reason.value:+.3f} {one_line(reason.kind)} {one_line(reason.text)}".rstrip())
    for row in history:
        details = ", ".join(f"{key} {value}" for key, value in row.details.items() if value not in {None, ""})
        typer.echo(one_line(f"{row.at:%Y-%m-%d %H:%M:%S}  {row.action} by {row.actor}  {details}").rstrip())
    for one in opinions:
        by = f" by {one.reviewer}" if one.reviewer else ""
        typer.echo(one_line(f"opinion   round {one.round}{by}: {one.verdict.value}: {one.label or one.reason}"))
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
        if stats.second or stats.third:
            typer.echo(f"  waiting    {stats.second} for a second opinion, {stats.third} for a third")
        if stats.oldest_pending:
            typer.echo(f"  oldest     waits since {stats.oldest_pending:%Y-%m-%d %H:%M} UTC")


def _audit_labels(config: Path, limit: int, model: Path | None, reviewer: str | None) -> None:
    from launch.review_model import asked_model
    from visionops.config import load_config
    from visionops.errors import DataError
    from visionops.review.label_audit import audit_labels
    from visionops.review.states import Actor

    use_case = load_config(config)
    dataset = _own_data(use_case)
    with asked_model(use_case, model) as asked, _opened() as review:
        _know(review, use_case)
        actor, now = Actor(reviewer or getpass.getuser()), datetime.now(UTC)
        found = audit_labels(review, use_case.name, dataset, asked, actor, now, limit=limit)
    _print_refused(found.refused)
    if not found.labelled:
        raise DataError(f"{use_case.name}: has no image with a label that can be looked at")
    typer.echo(f"labels    {found.labelled} looked at by {asked.name} {asked.version}, {found.suspects} probably wrong")
    typer.echo(f"queued    {found.new} new, {found.known} that were in review")
    if found.decided:
        typer.echo(f"left      {found.decided} that reviewers have decided already")


def _print_agreement(name: str) -> None:
    from launch.agreement_table import agreement_lines
    from visionops.review.agreement import agreement_of

    with _opened() as review:
        found = agreement_of(review.store, name)
    for line in agreement_lines(found):
        typer.echo(line)


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
