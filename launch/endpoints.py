"""Implement `visionops endpoints`: list the endpoints of a stack, with commands that describe, stop and remove them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from launch.programs import program
from launch.terminal import exit_code

__all__ = ["endpoints", "list_endpoints"]

_COMMANDS = {
    "describe": "model, address, objects",
    "logs": "the last lines of its server",
    "stop": "start restarts it",
    "delete": "removes it; the model stays registered",
}


def list_endpoints(
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="Stack of the endpoints (default: the active one).")
    ] = None,
) -> None:
    """List the endpoints of a stack with commands for each; ZenML's own list cuts the ids that they need."""

    def work() -> None:
        found = endpoints(stack)
        if as_json:
            typer.echo(json.dumps(found))
            return
        if not found["endpoints"]:
            typer.echo(f"stack {found['stack']} serves nothing")
            return
        if not found["active"]:
            typer.echo(f"{program('zenml')} stack set {found['stack']}   # so that model-deployer finds its endpoints")
        for one in found["endpoints"]:
            model = f"version {one['version'] or '?'} ({one['alias'] or 'no alias'})"
            trouble = f"; {one['trouble']}" if one["trouble"] else ""
            typer.echo(f"{one['name']}: {model}, {one['state']}, {one['url'] or 'no address'}{trouble}")
            for command, what in _COMMANDS.items():
                typer.echo(f"  {program('zenml')} model-deployer models {command:<8} {one['record']}   # {what}")

    raise typer.Exit(exit_code(work))


def endpoints(stack: str | None) -> dict[str, Any]:
    """Return the models that a stack serves; see `stacks.served.served_models`."""
    from launch.environment import quieten_libraries

    quieten_libraries()
    from stacks.served import served_models

    return served_models(stack)
