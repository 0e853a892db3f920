"""Update ZenML's stack from a stack file: ``python -m stacks.apply [NAME] [--dry-run] [--activate]``.

The order is: flavors, secrets and service connectors, then the components that use them, then the stack.

A second call changes nothing. Everything is checked before the first change, and a failed change undoes all earlier
ones, so a stack is never half applied.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stacks.changes import Action, Change, one_line
from stacks.credentials import connector_changes, fill_references, link, secret_changes, without_values
from stacks.paths import require_usable_paths
from stacks.spec import ComponentSpec, ComponentType, FlavorSpec, StackSpec, known_stacks, load_stack
from stacks.zenml_server import require_zenml_server
from visionops.errors import StackError, VisionOpsError

if TYPE_CHECKING:
    from zenml.client import Client

__all__ = ["Action", "Change", "apply", "apply_and_print", "ensure", "known_stacks", "main"]

_ROOT = Path(__file__).resolve().parents[1]


def apply(name: str, *, dry_run: bool = False) -> list[Change]:
    """Update the stack ``name`` to match ``stacks/<name>.yaml``.

    Args:
        dry_run: Return the changes without making them.

    Returns:
        The changes that were or would be made; empty on a second call.

    Raises:
        StackError: The file is invalid, or ZenML refuses or does not answer; then nothing has changed.
    """
    from zenml.client import Client
    from zenml.utils import source_utils

    spec = load_stack(name)
    require_usable_paths()
    require_zenml_server()
    # ZenML finds our flavors from the folder of the main module, which differs between our entry points.
    source_utils.set_custom_source_root(str(_ROOT))
    client = Client()
    changes = _plan(client, spec)
    if not dry_run:
        _carry_out(changes)
    return changes


def ensure(name: str) -> None:
    """Update a stack to match its file before a run; create a missing shared stack, but never change one.

    The file takes values from this process's environment, which may differ from that of other users.

    Raises:
        StackError: As `apply`; or ZenML has a server, whose stack differs from the file.
    """
    changes = apply(name, dry_run=True)
    if not changes:
        return
    if shared := _shared_differences(name, changes):
        raise StackError(
            f"stack {name!r}: the shared stack in ZenML's server differs from its file and this environment: {shared}; "
            f"restore the variables, or change it for everybody: visionops stack apply {name}"
        )
    _carry_out(changes)


def _shared_differences(name: str, changes: Sequence[Change]) -> str:
    from zenml.client import Client
    from zenml.enums import StoreType

    client = Client()
    if client.zen_store.type is not StoreType.REST or not client.list_stacks(name=name).items:
        return ""
    return "; ".join(map(str, changes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Apply a stack from the command line.

    Returns:
        2 after a user error, which is printed in one line.
    """
    parser = argparse.ArgumentParser(prog="python -m stacks.apply", description="Update a stack to match its file.")
    parser.add_argument("name", nargs="?", default="local", help="one of: " + ", ".join(known_stacks()))
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    parser.add_argument("--activate", action="store_true", help="make it the active stack, like `zenml stack set`")
    options = parser.parse_args(arguments)
    try:
        apply_and_print(options.name, dry_run=options.dry_run, activate=options.activate)
    except VisionOpsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def apply_and_print(name: str, *, dry_run: bool, activate: bool) -> None:
    """Apply a stack and print each change; with ``activate``, make it the active one.

    Raises:
        StackError: As `apply`.
    """
    changes = apply(name, dry_run=dry_run)
    if activate and not dry_run:
        from zenml.client import Client

        Client().activate_stack(name)
    for change in changes:
        print(f"would {change}" if dry_run else change)
    if not changes:
        print(f"stack {name}: nothing to change")
    elif not dry_run and any((change.kind, change.action) == ("stack", Action.CREATE) for change in changes):
        print(f"check that it works: visionops stack doctor {name}")


def _plan(client: Client, spec: StackSpec) -> list[Change]:
    """Return all changes, each checked as far as possible without making it."""
    flavors = {item.source: _load_flavor(item) for item in spec.flavors}
    changes = [change for item in spec.flavors if (change := _flavor_change(client, item, flavors[item.source]))]
    changes += secret_changes(client, spec) + connector_changes(client, spec)
    own = {(item.type, flavors[item.source].name): flavors[item.source] for item in spec.flavors}
    for kind, component in spec.components.items():
        if change := _component_change(client, kind, component, spec, own.get((kind, component.flavor))):
            changes.append(change)
    if change := _stack_change(client, spec):
        changes.append(change)
    return changes


def _carry_out(changes: Sequence[Change]) -> None:
    undo: list[Callable[[], Any]] = []
    for change in changes:
        try:
            undo.append(change.do())
        except Exception as error:
            for take_back in reversed(undo):
                take_back()
            raise StackError(f"{change}: {one_line(error)}; nothing was changed") from error


def _load_flavor(item: FlavorSpec) -> Any:
    from zenml.enums import StackComponentType
    from zenml.stack.flavor import validate_flavor_source

    try:
        return validate_flavor_source(item.source, StackComponentType(item.type.value))[1]
    except (ValueError, TypeError) as error:
        raise StackError(f"flavor {item.source}: {one_line(error)}") from error


def _flavor_change(client: Client, item: FlavorSpec, flavor: Any) -> Change | None:
    from zenml.enums import StackComponentType
    from zenml.models import FlavorUpdate

    kind = StackComponentType(item.type.value)
    found = client.list_flavors(name=flavor.name, type=kind.value, hydrate=True).items
    if not found:

        def create() -> Callable[[], Any]:
            made = client.create_flavor(item.source, kind)
            return lambda: client.delete_flavor(str(made.id))

        return Change(Action.CREATE, "flavor", flavor.name, item.source, create)
    old = found[0]
    if (old.source, old.config_schema) == (item.source, flavor.config_schema):
        return None

    def update() -> Callable[[], Any]:
        new = FlavorUpdate(source=item.source, config_schema=flavor.config_schema)
        back = FlavorUpdate(source=old.source, config_schema=old.config_schema)
        client.zen_store.update_flavor(old.id, new)
        return lambda: client.zen_store.update_flavor(old.id, back)

    return Change(Action.UPDATE, "flavor", flavor.name, item.source, update)


def _component_change(
    client: Client, kind: ComponentType, spec: ComponentSpec, stack: StackSpec, own: Any | None
) -> Change | None:
    from zenml.enums import StackComponentType

    component_type = StackComponentType(kind.value)
    wanted = _checked_configuration(client, component_type, spec, stack, own)
    found = client.list_stack_components(name=spec.name, type=component_type.value, hydrate=True).items
    if not found:

        def create() -> Callable[[], Any]:
            made = client.create_stack_component(spec.name, spec.flavor, component_type, wanted)
            if spec.connector:
                try:
                    client.update_stack_component(made.id, component_type, **link(client, spec.connector))
                except Exception:  # any failure: remove the component that has no connector
                    client.delete_stack_component(made.id, component_type)
                    raise
            return lambda: client.delete_stack_component(made.id, component_type)

        return Change(Action.CREATE, kind.value, spec.name, f"flavor {spec.flavor}", create)
    old = found[0]
    if old.flavor_name != spec.flavor:
        command = f"zenml {kind.value.replace('_', '-')} delete {spec.name}"
        raise StackError(f"{kind} {spec.name!r}: exists with flavor {old.flavor_name}; remove it: {command}")
    before = dict(old.configuration)
    linked = old.connector.name if old.connector else ""
    if before == wanted and linked == spec.connector:
        return None

    def store(old_settings: dict[str, Any], new_settings: dict[str, Any], connector: str) -> None:
        links = link(client, connector) if linked != spec.connector else {}
        difference = _difference(old_settings, new_settings)
        client.update_stack_component(old.id, component_type, configuration=difference, **links)

    def update() -> Callable[[], Any]:
        store(before, wanted, spec.connector)
        return lambda: store(wanted, before, linked)

    said = sorted(_difference(before, wanted)) + (["connector"] if linked != spec.connector else [])
    return Change(Action.UPDATE, kind.value, spec.name, ", ".join(said), update)


def _checked_configuration(
    client: Client, kind: Any, spec: ComponentSpec, stack: StackSpec, own: Any | None
) -> dict[str, Any]:
    """Return the configuration as ZenML would store it."""
    from zenml.stack.flavor import Flavor

    try:
        flavor = own or Flavor.from_model(client.get_flavor_by_name_and_type(spec.flavor, kind))
        unknown = set(spec.configuration) - set(flavor.config_class.model_fields)
        if unknown:
            raise StackError(f"{kind.value} {spec.name!r}: unknown setting {', '.join(sorted(unknown))}")
        # ZenML reads secrets at once, but may not have these yet.
        filled = {key: fill_references(value, stack.secrets) for key, value in spec.configuration.items()}
        checked = flavor.config_class(**filled)
        stored: dict[str, Any] = checked.model_dump(mode="json", exclude_unset=True)
        stored |= {key: value for key, value in spec.configuration.items() if filled[key] != value}
    except (KeyError, ValueError, ImportError) as error:
        says = without_values(one_line(error), stack.secrets)
        raise StackError(f"{kind.value} {spec.name!r} of flavor {spec.flavor!r}: {says}") from None
    return stored


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the argument of ZenML's merging update: changed settings, and None for removed ones."""
    gone: dict[str, Any] = dict.fromkeys(set(before) - set(after))
    return gone | {key: value for key, value in after.items() if before.get(key) != value}


def _stack_change(client: Client, spec: StackSpec) -> Change | None:
    from zenml.enums import StackComponentType

    wanted = {StackComponentType(kind.value): component.name for kind, component in spec.components.items()}
    detail = ", ".join(sorted(kind.value for kind in wanted))
    found = client.list_stacks(name=spec.name, hydrate=True).items
    if not found:

        def create() -> Callable[[], Any]:
            made = client.create_stack(spec.name, _ids(client, wanted))
            return lambda: client.delete_stack(made.id)

        return Change(Action.CREATE, "stack", spec.name, detail, create)
    old = found[0]
    if {kind: [item.name for item in items] for kind, items in old.components.items()} == {
        kind: [name] for kind, name in wanted.items()
    }:
        return None

    def update() -> Callable[[], Any]:
        before = {kind: [item.id for item in items] for kind, items in old.components.items()}
        _set_components(client, old.id, {kind: [id_] for kind, id_ in _ids(client, wanted).items()})
        return lambda: _set_components(client, old.id, before)

    return Change(Action.UPDATE, "stack", spec.name, detail, update)


def _ids(client: Client, components: dict[Any, str]) -> dict[Any, Any]:
    return {
        kind: client.get_stack_component(kind, name, allow_name_prefix_match=False).id
        for kind, name in components.items()
    }


def _set_components(client: Client, stack_id: Any, components: dict[Any, Any]) -> None:
    from zenml.models import StackUpdate

    # Client.update_stack can add and replace components but not remove one.
    client.zen_store.update_stack(stack_id, StackUpdate(components=components))


if __name__ == "__main__":
    sys.exit(main())
