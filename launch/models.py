"""Implement `visionops models` and `visionops promote`: list registered versions and choose the served one."""

from __future__ import annotations

import getpass
import json
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.programs import program
from launch.terminal import exit_code
from visionops.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from visionops.registry import ModelRegistry, RegisteredVersion

__all__ = ["export_bundle", "list_models", "models_of", "promote_model", "write_bundle"]

_NEWEST = 20
_Stack = Annotated[str | None, typer.Option(metavar="NAME", help="Stack with the registry (default: the active one).")]


def list_models(
    names: Annotated[list[str], typer.Argument(help="Names of use cases.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    stack: _Stack = None,
) -> None:
    """List the newest versions of use cases, with their aliases and the gate's decisions."""

    def work() -> None:
        found = models_of(names, stack)
        if as_json:
            typer.echo(json.dumps(found))
            return
        for name, model in found.items():
            typer.echo(f"{name}: champion {model['champion'] or 'none'}")
            for version in model["versions"]:
                aliases = ", ".join(version["aliases"]) or ("rolled back" if version["rolled_back"] else "-")
                by_hand = f"; promoted by {version['promoted_by_hand']}" if version["promoted_by_hand"] else ""
                typer.echo(f"  {version['version']:>4}  {aliases:<22}  {version['gate'] or ''}{by_hand}")

    raise typer.Exit(exit_code(work))


def promote_model(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Use case, a YAML file.", show_default=False)],
    version: Annotated[str, typer.Option(metavar="N", help="Registered version.", show_default=False)],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Reason, stored with the version.", show_default=False)],
    override: Annotated[bool, typer.Option("--override", help="Promote it even if the gate refused it.")] = False,
    who: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Author (default: your account).")] = None,
    stack: _Stack = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the outcome as JSON.")] = None,
) -> None:
    """Serve a version as champion; a version that the gate refused needs --override."""
    raise typer.Exit(exit_code(lambda: _promote(config, version, reason, override, who, stack, summary)))


def write_bundle(
    name: Annotated[str, typer.Argument(help="Name of the use case.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Where the bundle goes; must not exist.", show_default=False)],
    version: Annotated[
        str | None, typer.Option(metavar="N", help="Registered version (default: the champion).", show_default=False)
    ] = None,
    stack: _Stack = None,
) -> None:
    """Write the bundle of a version to a folder, to serve it on another machine."""

    def work() -> None:
        from launch.environment import quieten_libraries

        quieten_libraries()
        from stacks.session import open_registry

        found = export_bundle(open_registry(stack), name, version, folder)
        typer.echo(f"written   {folder}: {name} version {found.version}, digest {found.digest[:12]}")
        words = ["-m", "deploy.serving", "--bundle", str(folder), "--name", name, "--version", found.version]
        typer.echo(f"serve it  {program('python')} {shlex.join(words)}")

    raise typer.Exit(exit_code(work))


def export_bundle(registry: ModelRegistry, name: str, number: str | None, folder: Path) -> RegisteredVersion:
    """Write the bundle of a version to ``folder``, whole or not at all.

    Args:
        registry: Where the version is registered.
        name: Registered model.
        number: Registered version; None for the champion.
        folder: Must not exist.

    Raises:
        ConfigError: ``folder`` exists or cannot be written.
        RegistryError: There is no such version.
        BundleError: The bundle is corrupt.
    """
    if folder.exists():
        raise ConfigError(f"{folder}: already exists; choose a folder that does not")
    version = registry.champion(name) if number is None else _version(registry, name, number)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".bundle-") as draft:
            registry.fetch_bundle(version, Path(draft)).folder.rename(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    return version


def _version(registry: ModelRegistry, name: str, number: str) -> RegisteredVersion:
    if version := registry.by_version(name, number):
        return version
    raise RegistryError(f"{name}: has no version {number}; `visionops models {name}` lists them")


def models_of(names: list[str], stack: str | None) -> dict[str, Any]:
    """Return the champion and the newest versions of each use case.

    Raises:
        VisionOpsError: The registry does not answer, or the stack is unknown.
    """
    from launch.environment import quieten_libraries

    quieten_libraries()
    from stacks.session import open_registry

    found: dict[str, Any] = {}
    registry = open_registry(stack)
    for name in names:
        versions = registry.versions(name, _NEWEST)
        champion = registry.by_alias(name, "champion")
        found[name] = {"champion": champion and champion.version, "versions": [_row(one) for one in versions]}
    return found


def _row(version: RegisteredVersion) -> dict[str, Any]:
    tags = version.tags
    return {
        "version": version.version,
        "aliases": list(version.aliases),
        "digest": version.digest,
        "created": version.created.isoformat(),
        "trained": version.trained.isoformat(),
        "rolled_back": version.rolled_back,
        "promoted_by_gate": version.gate_promotes,
        "gate": tags.get("gate.reason"),
        "promoted_by_hand": tags.get("visionops.promoted_by_hand"),
        "release": _release(version),
        "metrics": {key.removeprefix("test."): float(value) for key, value in tags.items() if key.startswith("test.")},
    }


def _release(version: RegisteredVersion) -> dict[str, Any] | None:
    from visionops.canary.holding import release_state

    try:
        state = release_state(version)
    except RegistryError as error:  # affects one version; list the others
        return {"stage": "unreadable", "reason": str(error)}
    return state.model_dump(mode="json") if state else None


def _promote(
    config_file: Path,
    number: str,
    reason: str,
    override: bool,
    who: str | None,
    stack: str | None,
    summary: Path | None,
) -> None:
    from launch.environment import quieten_libraries
    from visionops.config import load_config

    if not reason.strip():
        raise ConfigError("--reason: empty; give the reason of the promotion")
    config = load_config(config_file)
    quieten_libraries()
    from stacks.session import open_session
    from steps.context import active_deployer, active_registry
    from visionops.release import promote_by_hand

    with open_session(config.name, stack, works_here=True):
        registry = active_registry()
        version = _version(registry, config.name, number)
        by = f"{who or getpass.getuser()}: {reason}"
        endpoint = promote_by_hand(registry, active_deployer(), version, config.serving, by, override=override)
    typer.echo(f"champion  {config.name} version {number}")
    typer.echo(f"endpoint  {endpoint.url}")
    if summary:
        found = {"use_case": config.name, "model": {"name": config.name, "version": number, "alias": "champion"}}
        summary.write_text(json.dumps(found | {"endpoint": endpoint.model_dump(mode="json")}), encoding="utf-8")
