"""Implement `visionops stop`: stop a run on other machines."""

from __future__ import annotations

from typing import Annotated

import typer

from launch.terminal import exit_code

__all__ = ["stop"]


def stop(
    run: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="Stack that it runs on (default: the active one).")
    ] = None,
) -> None:
    """Stop a run whose steps run in a cluster or on Airflow, and wait for its end."""

    def work() -> None:
        from launch.environment import quieten_libraries

        quieten_libraries()
        from zenml.client import Client

        from stacks.active import active_stack
        from stacks.integrations import leave_out_unused_integrations
        from stacks.stopping import stop_run
        from stacks.zenml_server import active_stack_name, require_zenml_server

        require_zenml_server()
        leave_out_unused_integrations()
        with active_stack(Client(), stack or active_stack_name(), keep=False):
            stop_run(run)
        typer.echo(f"run {run}: stopped")

    raise typer.Exit(exit_code(work))
