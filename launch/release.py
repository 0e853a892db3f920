"""Implement `visionops release`: inspect the candidate next to the champion, and end its release."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.terminal import exit_code
from visionops.errors import ConfigError

if TYPE_CHECKING:
    from visionops.canary.holding import Held
    from visionops.config import Config

__all__ = ["release_app"]

release_app = typer.Typer(
    help="Inspect the candidate next to the champion (serving.release), and end its release.",
    no_args_is_help=True,
)

_Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="Use case, a YAML file.", show_default=False)]
_Stack = Annotated[
    str | None, typer.Option("--stack", metavar="NAME", help="Stack of the endpoint (default: the active one).")
]
_Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Reason, stored with the version.", show_default=False)
]
_Who = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Author (default: your account).")]
_Summary = Annotated[
    Path | None, typer.Option("--summary", metavar="FILE", help="Also write the outcome as JSON.", show_default=False)
]


@release_app.command("status", epilog="Example: visionops release status --config configs/steel.yaml")
def print_status(config: _Config, stack: _Stack = None, summary: _Summary = None) -> None:
    """Print the results of champion and candidate and the resulting action, without taking it."""

    def work() -> None:
        known = _load(config)
        from stacks.session import open_session
        from steps.context import active_deployer, active_registry
        from visionops.canary.holding import look

        with open_session(known.name, stack):
            held, verdict = look(active_registry(), active_deployer(), known.name, datetime.now(UTC))
        _print(held, verdict.action.value, verdict.reason)
        _write(summary, held, verdict.action.value, verdict.reason)

    raise typer.Exit(exit_code(work))


@release_app.command("watch", epilog="Example: visionops release watch --config configs/steel.yaml --every 60")
def watch_release(
    config: _Config,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="Time between two checks.")] = 60,
    once: Annotated[bool, typer.Option("--once", help="Check once and act on the result, for a timer.")] = False,
    stack: _Stack = None,
    summary: _Summary = None,
) -> None:
    """Promote the candidate when it has kept its limits for the configured time; remove it when it has not."""

    def work() -> None:
        known = _load(config)
        from stacks.session import open_session
        from steps.context import active_alerter, active_deployer, active_registry
        from visionops.canary.alerts import release_alerts
        from visionops.canary.holding import settle

        said = ""
        while True:
            with open_session(known.name, stack):  # others may train between two checks
                now = datetime.now(UTC)
                held, verdict = settle(active_registry(), active_deployer(), known.name, known.serving, now)
                alerts, alerter = release_alerts(held), active_alerter()
                if alerts and alerter:
                    alerter.send(alerts)
            if verdict.reason != said:
                _print(held, held.state.stage.value, verdict.reason)
                said = verdict.reason
            if once or held.state.ended:
                _write(summary, held, held.state.stage.value, verdict.reason)
                return
            time.sleep(every)

    raise typer.Exit(exit_code(work))


@release_app.command(
    "promote", epilog="Example: visionops release promote --config configs/steel.yaml --reason 'seen on line 3'"
)
def promote_now(config: _Config, reason: _Reason, who: _Who = None, stack: _Stack = None) -> None:
    """Make the candidate champion before its hold time ends."""
    raise typer.Exit(exit_code(lambda: _end_by_hand(config, reason, who, stack, promotes=True)))


@release_app.command(
    "abort", epilog="Example: visionops release abort --config configs/steel.yaml --reason 'misses scratches'"
)
def abort_now(config: _Config, reason: _Reason, who: _Who = None, stack: _Stack = None) -> None:
    """Remove the candidate; the champion answers all requests."""
    raise typer.Exit(exit_code(lambda: _end_by_hand(config, reason, who, stack, promotes=False)))


@release_app.command("compare", epilog="Example: visionops release compare --config configs/steel.yaml")
def compare_labelled(config: _Config, stack: _Stack = None) -> None:
    """Score champion and candidate, each on labelled images drawn at random from its own answers."""
    raise typer.Exit(exit_code(lambda: _compare(config, stack)))


def _load(config_file: Path) -> Config:
    from launch.environment import quieten_libraries
    from visionops.config import load_config

    config = load_config(config_file)
    quieten_libraries()
    return config


def _end_by_hand(config_file: Path, reason: str, who: str | None, stack: str | None, *, promotes: bool) -> None:
    if not reason.strip():
        raise ConfigError("--reason: empty; give a reason")
    config = _load(config_file)
    from stacks.session import open_session
    from steps.context import active_deployer, active_registry
    from visionops.canary.holding import abort, promote_early

    act: Callable[..., Held] = promote_early if promotes else abort
    with open_session(config.name, stack):
        held = act(
            active_registry(),
            active_deployer(),
            config.name,
            config.serving,
            datetime.now(UTC),
            reason=reason,
            by=who or getpass.getuser(),
        )
    _print(held, held.state.stage.value, held.state.reason)


def _compare(config_file: Path, stack: str | None) -> None:
    import tempfile

    config = _load(config_file)
    from stacks.session import open_session
    from steps.context import active_registry
    from visionops.canary.comparison import arm_line, compare_arms, labelled_arms
    from visionops.canary.holding import find_held
    from visionops.errors import RegistryError
    from visionops.home import visionops_home
    from visionops.review_store.opening import open_review
    from visionops.tasks.spec import task_for

    with open_session(config.name, stack), tempfile.TemporaryDirectory(prefix="visionops-arms-") as folder:
        registry = active_registry()
        held = find_held(registry, config.name)
        if held is None:
            raise RegistryError(f"{config.name}: no candidate next to the champion, so there is nothing to compare")
        champion = registry.by_version(config.name, held.state.champion) or registry.champion(config.name)
        with open_review() as review:
            use_case = review.store.use_case(config.name)
            cache = visionops_home() / "data" / "review"
            arms = labelled_arms(review, use_case, (champion.version, held.version.version), cache)
        fetched = [
            (one.version, registry.fetch_bundle(one, Path(folder) / one.version)) for one in (champion, held.version)
        ]
        found = compare_arms(task_for(config.task), fetched[0], fetched[1], arms, config.gate_plan.scoring)
    typer.echo(arm_line("champion ", found.champion))
    typer.echo(arm_line("candidate", found.candidate))
    typer.echo(found.explain())


def _print(held: Held, action: str, reason: str) -> None:
    state = held.state
    typer.echo(
        f"{state.release.strategy.value:<9} {held.version.name} version {held.version.version} beside version "
        f"{state.champion} since {state.since:%Y-%m-%d %H:%M} UTC"
    )
    typer.echo(f"{action:<9} {reason}")


def _write(summary: Path | None, held: Held, action: str, reason: str) -> None:
    if summary is None:
        return
    found = {
        "use_case": held.version.name,
        "version": held.version.version,
        "action": action,
        "reason": reason,
        "release": held.state.model_dump(mode="json"),
    }
    summary.write_text(json.dumps(found), encoding="utf-8")
