"""The commands below `visionops review`: what a person at a terminal does with reviews."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.review_export import Tracking, export_version
from launch.review_history import print_history
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


@review_app.command("intake", epilog="Example: visionops review intake --config configs/steel.yaml --follow 30")
def _intake(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    log: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URI",
            help="Prediction log of the servers, or its store (default: the active stack's).",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.1, help="Go on until interrupted, looking each so often.", show_default=False
        ),
    ] = None,
) -> None:
    """Make items of sampled traffic and of feedback, each once."""
    raise typer.Exit(exit_code(lambda: _take_logs(config, log, follow)))


@review_app.command("export", epilog="Example: visionops review export steel /data/steel-1 --format coco")
def _export(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Where images and labels go; not there yet.", show_default=False)],
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help="coco, yolo, csv or fiftyone.")] = "coco",
    version: Annotated[
        int | None,
        typer.Option(metavar="N", help="Write this data version again (default: make the next).", show_default=False),
    ] = None,
    dvc: Annotated[bool, typer.Option("--dvc", help="Track FOLDER with DVC, in whose repository it lies.")] = False,
    push: Annotated[bool, typer.Option("--push", help="With --dvc: push it, too.")] = False,
    remote: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --push: DVC's remote (default: the repository's).", show_default=False),
    ] = None,
    reviewer: Reviewer = None,
) -> None:
    """Make a data version of what is decided and in none yet, and write it."""
    tracking = Tracking(push, remote) if dvc else None
    if (push and not dvc) or (remote is not None and not push):
        raise typer.Exit(exit_code(_refuse_push))
    raise typer.Exit(exit_code(lambda: export_version(name, folder, format_, version, reviewer, tracking)))


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


@review_app.command("history", epilog="Example: visionops review history 2064b84b9b987c6357ede46641d4b7c0")
def _history(
    image: Annotated[str, typer.Argument(help="SHA-256 of an image, or the id of an item.", show_default=False)],
) -> None:
    """Show all that is known of an image: arrivals, predictions, decisions, data versions, models."""
    raise typer.Exit(exit_code(lambda: print_history(image)))


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


@review_app.command("prioritize", epilog="Example: visionops review prioritize --config configs/steel.yaml")
def _prioritize(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A model bundle (default: the champion's).", show_default=False),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="Whose disagreement counts: a version, or none (default: the challenger).",
            show_default=False,
        ),
    ] = None,
    reviewer: Reviewer = None,
) -> None:
    """Put the pending items in order, by what the champion says of them."""
    from launch.review_queue import prioritize_queue

    raise typer.Exit(exit_code(lambda: prioritize_queue(config, bundle, shadow, reviewer)))


@review_app.command("index", epilog="Example: visionops review index --config configs/steel.yaml")
def _index(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Keep the splits of earlier versions of the model.")
    ] = True,
) -> None:
    """Make the images of the data set and their splits known; again, and only new ones are looked at."""
    raise typer.Exit(exit_code(lambda: _index_dataset(config, with_history=history)))


@review_app.command("similar", epilog="Example: visionops review similar steel new.jpg --limit 5")
def _similar(
    name: Name,
    image: Annotated[Path, typer.Argument(help="An image file.", show_default=False)],
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many.", min=1, max=100)] = 10,
) -> None:
    """List the known images that an image resembles most."""
    raise typer.Exit(exit_code(lambda: _list_similar(name, image, limit)))


@review_app.command("sweep")
def _sweep(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False) -> None:
    """Remove images that an intake which died has left, a day after."""
    raise typer.Exit(exit_code(lambda: _sweep_images(dry_run=dry_run)))


@review_app.command("migrate")
def _migrate() -> None:
    """Bring the database to the schema of this version; make a backup first."""
    raise typer.Exit(exit_code(_migrate_database))


def _refuse_push() -> None:
    from visionops.errors import ConfigError

    raise ConfigError("--push: needs --dvc, and --remote needs --push; add it")


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


def _take_logs(config: Path, log: str | None, follow: float | None) -> None:
    from launch.review_intake import server_logs, take_logs
    from visionops.config import load_config

    use_case = load_config(config)
    logs = server_logs(use_case, log)
    with _opened() as review:
        _know(review, use_case)
        take_logs(review, use_case, logs, follow)


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


def _know(review: Review, use_case: Config, dataset: Dataset | None = None) -> None:
    """Put the classes of the use case's data set there, unless they are, and the share of second opinions."""
    from visionops.review.exchange import scheme_of
    from visionops.review.items import UseCase

    if use_case.name not in {known.name for known in review.store.use_cases()}:
        dataset = dataset or _read_own(use_case)
        review.put_use_case(UseCase(use_case.name, use_case.task, scheme_of(dataset)))
    review.set_second_share(use_case.name, use_case.review.second_opinion.share)


def _read_own(use_case: Config) -> Dataset:
    """The data set of a use case."""
    from visionops.data.formats import read_dataset
    from visionops.data.sources import fetch
    from visionops.home import visionops_home
    from visionops.tasks.spec import task_for

    root = fetch(use_case.data.source, visionops_home() / "data")
    return read_dataset(root, use_case.data, use_case.name, task_for(use_case.task).fit_dataset)


def _index_dataset(config: Path, *, with_history: bool) -> None:
    from launch.similar import index_images
    from visionops.config import load_config

    use_case = load_config(config)
    with _opened() as review:
        dataset = _read_own(use_case)
        _know(review, use_case, dataset)
        index_images(review, use_case, dataset, with_history=with_history)


def _list_similar(name: str, image: Path, limit: int) -> None:
    from launch.similar import print_similar

    with _opened() as review:
        print_similar(review, name, image, limit)


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
    name = f"(like test) {name}" if item.is_held_out else name
    shown = name if len(name) <= 18 else f"{name[:12]}…{name[-5:]}" if name.startswith("(") else f"…{name[-17:]}"
    return f"{item.id:<32}  {item.status.state.value:<8}  {item.added:%Y-%m-%d %H:%M}  {shown}".rstrip()


def _show_item(name: str, *, shows_all: bool) -> None:
    from launch.similar import describe_likeness
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
        if stats.held_out:
            typer.echo(f"  held out   {stats.held_out} with a label that resemble images of the test split")
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
    dataset = _read_own(use_case)
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
