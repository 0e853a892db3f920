"""Define the commands of `visionops review`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from launch.review_data import import_folder, index_dataset, list_similar, queue_label_errors, take_server_logs
from launch.review_export import Tracking, export_version
from launch.review_history import print_history
from launch.review_listing import list_items, print_agreement, print_stats, show_item
from launch.terminal import exit_code

__all__ = ["review_app"]

review_app = typer.Typer(
    help="Images that people confirm, correct or reject.",
    epilog="VISIONOPS_REVIEW_DATABASE and VISIONOPS_REVIEW_IMAGES set their storage; see docs/how-to/review.md.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name of the use case, as in its file.", show_default=False)]
Reviewer = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Author (default: your account).", show_default=False)
]


@review_app.command("import", epilog="Example: visionops review import --config configs/steel.yaml /data/new")
def _import(
    folder: Annotated[Path, typer.Argument(help="A folder of images.", show_default=False)],
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="FORMAT", help="Also import its labels: auto, coco, yolo, csv, …", show_default=False
        ),
    ] = None,
    decided: Annotated[bool, typer.Option("--decided", help="Its labels are decisions, not proposals.")] = False,
    reviewer: Reviewer = None,
) -> None:
    """Import a folder of images; a second import changes nothing."""
    raise typer.Exit(exit_code(lambda: import_folder(folder, config, labels, reviewer, decided=decided)))


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
        typer.Option(metavar="SECONDS", min=0.1, help="Repeat at this interval until interrupted.", show_default=False),
    ] = None,
) -> None:
    """Create review items from sampled traffic and feedback, each once."""
    raise typer.Exit(exit_code(lambda: take_server_logs(config, log, follow)))


@review_app.command("export", epilog="Example: visionops review export steel /data/steel-1 --format coco")
def _export(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="New folder for images and labels.", show_default=False)],
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help="coco, yolo, csv or fiftyone.")] = "coco",
    version: Annotated[
        int | None,
        typer.Option(metavar="N", help="Write this data version again (default: create the next).", show_default=False),
    ] = None,
    dvc: Annotated[bool, typer.Option("--dvc", help="Track FOLDER with DVC; it must be in a DVC repository.")] = False,
    push: Annotated[bool, typer.Option("--push", help="With --dvc: also push it.")] = False,
    remote: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --push: DVC's remote (default: the repository's).", show_default=False),
    ] = None,
    reviewer: Reviewer = None,
) -> None:
    """Create a data version from decisions that no version has yet, and write it."""
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
    limit: Annotated[int, typer.Option(metavar="N", help="Maximum number of items.")] = 20,
    after: Annotated[
        str | None, typer.Option(metavar="ITEM", help="Continue after this item.", show_default=False)
    ] = None,
) -> None:
    """List items, newest first."""
    raise typer.Exit(exit_code(lambda: list_items(name, state or [], limit, after)))


@review_app.command("show", epilog="Example: visionops review show 2064b84b9b987c6357ede46641d4b7c0")
def _show(
    item: Annotated[str, typer.Argument(help="Id of an item, from `list`.", show_default=False)],
    opinions: Annotated[
        bool, typer.Option("--opinions", help="Also show opinions that are still hidden from reviewers.")
    ] = False,
) -> None:
    """Show the history of an item."""
    raise typer.Exit(exit_code(lambda: show_item(item, shows_all=opinions)))


@review_app.command("history", epilog="Example: visionops review history 2064b84b9b987c6357ede46641d4b7c0")
def _history(
    image: Annotated[str, typer.Argument(help="SHA-256 of an image, or the id of an item.", show_default=False)],
) -> None:
    """Show the full history of an image: arrivals, predictions, decisions, data versions, models."""
    raise typer.Exit(exit_code(lambda: print_history(image)))


@review_app.command("stats")
def _stats(
    name: Annotated[str | None, typer.Argument(help="Name of a use case (default: all).", show_default=False)] = None,
) -> None:
    """Count items by state, and decisions by verdict and reviewer."""
    raise typer.Exit(exit_code(lambda: print_stats(name)))


@review_app.command("agreement", epilog="Example: visionops review agreement steel")
def _agreement(name: Name) -> None:
    """Show the agreement of reviewers who answered the same images blind."""
    raise typer.Exit(exit_code(lambda: print_agreement(name)))


@review_app.command("audit", epilog="Example: visionops review audit --config configs/casting.yaml --limit 50")
def _audit(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum number of labels, worst first.")] = 100,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of a bundle (default: the champion).", show_default=False),
    ] = None,
    reviewer: Reviewer = None,
) -> None:
    """Queue the labels of the data set that a model contradicts most."""
    raise typer.Exit(exit_code(lambda: queue_label_errors(config, limit, model, reviewer)))


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
            help="Version to compare with for disagreement, or none (default: the challenger).",
            show_default=False,
        ),
    ] = None,
    reviewer: Reviewer = None,
) -> None:
    """Sort the pending items by the champion's answers."""
    from launch.review_queue import prioritize_queue

    raise typer.Exit(exit_code(lambda: prioritize_queue(config, bundle, shadow, reviewer)))


@review_app.command("index", epilog="Example: visionops review index --config configs/steel.yaml")
def _index(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Keep the splits of earlier versions of the model.")
    ] = True,
) -> None:
    """Index the images of the data set with their splits; a second run only reads new images."""
    raise typer.Exit(exit_code(lambda: index_dataset(config, with_history=history)))


@review_app.command("similar", epilog="Example: visionops review similar steel new.jpg --limit 5")
def _similar(
    name: Name,
    image: Annotated[Path, typer.Argument(help="An image file.", show_default=False)],
    limit: Annotated[int, typer.Option(metavar="N", help="Maximum number of images.", min=1, max=100)] = 10,
) -> None:
    """List the indexed images that are most similar to an image."""
    raise typer.Exit(exit_code(lambda: list_similar(name, image, limit)))


@review_app.command("sweep")
def _sweep(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False) -> None:
    """Remove images that a crashed intake left more than a day ago."""
    raise typer.Exit(exit_code(lambda: _sweep_images(dry_run=dry_run)))


@review_app.command("migrate")
def _migrate() -> None:
    """Migrate the database to the schema of this version; make a backup first."""
    raise typer.Exit(exit_code(_migrate_database))


def _refuse_push() -> None:
    from visionops.errors import ConfigError

    raise ConfigError("--push: needs --dvc, and --remote needs --push; add the missing option")


def _sweep_images(*, dry_run: bool) -> None:
    from visionops.review.sweep import sweep
    from visionops.review_store.opening import open_review

    with open_review() as review:
        found = sweep(review.store, review.images, datetime.now(UTC), dry_run=dry_run)
    typer.echo(f"images    {found.images}, {len(found.orphans)} of them left by a crashed intake")
    typer.echo(f"removed   {found.removed} images, {found.drafts} drafts")


def _migrate_database() -> None:
    from visionops.review_store.opening import open_database
    from visionops.review_store.schema import migrate

    database = open_database()
    try:
        before, now = migrate(database)
    finally:
        database.close()
    was = "created" if before is None else "already the newest" if before == now else f"was {before}"
    typer.echo(f"schema    {now} ({was}) of {database.place}")
