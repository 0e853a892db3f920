"""Implement `visionops review prioritize`: sort the queue by the active stack's champion, or by a bundle."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

# Imported late, so that `visionops --help` does not wait for SQLAlchemy and image libraries.
if TYPE_CHECKING:
    from visionops.registry import RegisteredVersion
    from visionops.review.looking import Model

__all__ = ["prioritize_queue"]

_NO_SHADOW = "none"
_MOST_PROBLEMS = 10


def prioritize_queue(config: Path, bundle: Path | None, shadow: str | None, reviewer: str | None) -> None:
    """Sort the pending items of a use case, and print the changes.

    Args:
        bundle: Folder of a bundle to use instead of the champion's.
        shadow: A registered version, or ``none``; by default the challenger, if there is one.
        reviewer: Author; by default the user's account.
    """
    from visionops.config import load_config
    from visionops.errors import ConfigError, one_line
    from visionops.review.prioritizing import prioritize
    from visionops.review.states import Actor
    from visionops.review_store.opening import open_review

    use_case = load_config(config)
    now = datetime.now(UTC)
    if not use_case.review.selection.disagreement:
        if shadow not in {None, _NO_SHADOW}:
            raise ConfigError("--shadow: unused, because review.selection.disagreement is 0; set a weight")
        shadow = _NO_SHADOW
    with open_review() as review, _models(use_case.name, bundle, shadow) as (model, other):
        review.store.use_case(use_case.name)
        typer.echo(f"model     {one_line(model.name)} version {one_line(model.version)}")
        if other is not None:
            typer.echo(f"shadow    version {one_line(other.version)}")
        found = prioritize(
            review,
            use_case.name,
            model,
            use_case.review,
            Actor(reviewer or getpass.getuser()),
            key=f"prioritize {now.isoformat()}",
            now=now,
            shadow=other,
        )
    for problem in found.problems[:_MOST_PROBLEMS]:
        typer.echo(f"no answer {one_line(problem)}")
    if len(found.problems) > _MOST_PROBLEMS:
        typer.echo(f"no answer {len(found.problems) - _MOST_PROBLEMS} more")
    stored = found.stored
    typer.echo(f"items     {stored.changed} moved, {stored.same} unchanged, {stored.left} claimed meanwhile")
    typer.echo(f"random    {found.random} of the pending items")


@contextmanager
def _models(name: str, bundle: Path | None, shadow: str | None) -> Iterator[tuple[Model, Model | None]]:
    """Load the model that answers, and the one to compare with for disagreement, while the block runs."""
    from visionops.errors import ConfigError
    from visionops.inference.bundle import ModelBundle
    from visionops.review.looking import Model

    if bundle is not None:
        if shadow not in {None, _NO_SHADOW}:
            raise ConfigError("--shadow: only works with the champion; remove --bundle")
        opened = ModelBundle.load(bundle.expanduser().absolute())
        yield Model(opened.card.name, opened.digest[:12], opened), None
        return

    from launch.environment import quieten_libraries

    quieten_libraries()
    from steps.context import champion_bundle, version_bundle

    with ExitStack() as stack:
        champion, its_bundle = stack.enter_context(champion_bundle(name))
        other = _shadow(name, champion.version, shadow)
        model = Model(name, champion.version, its_bundle)
        second = None if other is None else Model(name, other.version, stack.enter_context(version_bundle(other)))
        yield model, second


def _shadow(name: str, champion: str, wanted: str | None) -> RegisteredVersion | None:
    from steps.context import active_registry
    from visionops.errors import ConfigError
    from visionops.registry import CHALLENGER

    if wanted == _NO_SHADOW:
        return None
    registry = active_registry()
    found = registry.by_alias(name, CHALLENGER) if wanted is None else registry.by_version(name, wanted)
    if wanted is not None and found is None:
        raise ConfigError(f"--shadow: {name} has no version {wanted!r}")
    return None if found is None or found.version == champion else found
