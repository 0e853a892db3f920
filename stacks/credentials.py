"""Compare and store secrets and service connectors of a stack file, without ever printing their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stacks.changes import Action, Change, one_line
from stacks.spec import REFERENCE, ConnectorSpec, StackSpec
from visionops.errors import StackError

if TYPE_CHECKING:
    from pydantic import SecretStr
    from zenml.client import Client

__all__ = ["connector_changes", "fill_references", "link", "secret_changes", "without_values"]

_HIDDEN = "***"


def secret_changes(client: Client, spec: StackSpec) -> list[Change]:
    """Return the changes that make ZenML's secrets match the file; keys that the file lacks are removed."""
    return list(filter(None, (_secret_change(client, name, _open(held)) for name, held in spec.secrets.items())))


def connector_changes(client: Client, spec: StackSpec) -> list[Change]:
    """Return the changes that make ZenML's service connectors match the file. The doctor checks that they connect.

    Raises:
        StackError: A connector's library is not installed, its type is unknown, or it exists with another type.
    """
    return list(filter(None, (_connector_change(client, name, wanted) for name, wanted in spec.connectors.items())))


def link(client: Client, connector: str) -> dict[str, Any]:
    """Return the arguments of `update_stack_component` that link a component to a connector, or to none."""
    if not connector:
        return {"disconnect": True}
    found = client.get_service_connector(connector, allow_name_prefix_match=False)
    return {"connector_id": found.id, "connector_resource_id": found.resource_id}


def fill_references(value: Any, secrets: Mapping[str, Mapping[str, SecretStr]]) -> Any:
    """Return a setting with its references to ``secrets`` replaced by their values; other references stay."""
    if isinstance(value, dict):
        return {key: fill_references(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_references(item, secrets) for item in value]
    reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if reference is None or reference[1] not in secrets:
        return value
    return secrets[reference[1]][reference[2]].get_secret_value()


def without_values(text: str, secrets: Mapping[str, Mapping[str, SecretStr]]) -> str:
    """Return a text with the values of ``secrets`` removed."""
    return _without(text, [value for held in secrets.values() for value in _open(held).values()])


def _secret_change(client: Client, name: str, wanted: dict[str, str]) -> Change | None:
    try:
        found = client.get_secret(name, private=False, allow_partial_name_match=False, allow_partial_id_match=False)
    except KeyError:

        def create() -> Callable[[], Any]:
            with _values_hidden(wanted.values()):
                made = client.create_secret(name, wanted)
            return lambda: client.delete_secret(str(made.id))

        return Change(Action.CREATE, "secret", name, ", ".join(sorted(wanted)), create)
    before: dict[str, str] = found.secret_values
    changed = sorted(key for key in before.keys() | wanted.keys() if before.get(key) != wanted.get(key))
    if not changed:
        return None

    def store(new: Mapping[str, str], old: Mapping[str, str]) -> None:
        with _values_hidden([*new.values(), *old.values()]):
            client.update_secret(
                found.id,
                add_or_update_values={key: new[key] for key in changed if key in new},
                remove_values=[key for key in changed if key not in new and key in old],
            )

    def update() -> Callable[[], Any]:
        store(wanted, before)
        return lambda: store(before, wanted)

    return Change(Action.UPDATE, "secret", name, ", ".join(changed), update)


def _connector_change(client: Client, name: str, wanted: ConnectorSpec) -> Change | None:
    _require_type(client, name, wanted)
    settings = _open(wanted.configuration)
    try:
        found = client.get_service_connector(name, allow_name_prefix_match=False, expand_secrets=True)
    except KeyError:

        def create() -> Callable[[], Any]:
            from zenml.models import ServiceConnectorResponse

            with _values_hidden(settings.values()):
                made, _ = client.create_service_connector(
                    name,
                    wanted.type,
                    auth_method=wanted.auth_method,
                    resource_id=wanted.resource_id or None,
                    configuration=settings,
                    verify=False,
                )
            assert isinstance(made, ServiceConnectorResponse)  # only a dry run returns a request
            return lambda: client.delete_service_connector(made.id)

        return Change(Action.CREATE, "connector", name, f"type {wanted.type}", create)
    kind = found.type if isinstance(found.type, str) else found.type.connector_type
    if kind != wanted.type:
        raise StackError(f"connector {name!r}: exists as type {kind}; remove it: zenml service-connector delete {name}")
    before = dict(found.configuration.plain)
    changed = sorted(key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key))
    was, becomes = (found.auth_method, found.resource_id or ""), (wanted.auth_method, wanted.resource_id)
    changed += [what for what, a, b in zip(("auth_method", "resource_id"), was, becomes, strict=True) if a != b]
    if not changed:
        return None

    def store(configuration: dict[str, str], auth_method: str, resource_id: str) -> None:
        with _values_hidden([*before.values(), *settings.values()]):
            client.update_service_connector(
                found.id, auth_method=auth_method, resource_id=resource_id, configuration=configuration, verify=False
            )

    def update() -> Callable[[], Any]:
        store(settings, *becomes)
        return lambda: store(before, *was)

    return Change(Action.UPDATE, "connector", name, ", ".join(changed), update)


def _require_type(client: Client, name: str, wanted: ConnectorSpec) -> None:
    known = {found.connector_type: found for found in client.list_service_connector_types()}
    if wanted.type not in known:
        raise StackError(
            f"connector {name!r}: type {wanted.type} is unknown, or its libraries are not installed; choose one of "
            f"{', '.join(sorted(known))}, or pip install 'zenml[connectors-{wanted.type}]'"
        )
    methods = known[wanted.type].auth_method_dict
    if wanted.auth_method not in methods:
        raise StackError(
            f"connector {name!r}: auth_method {wanted.auth_method} is unknown for type {wanted.type}; choose one of "
            f"{', '.join(sorted(methods))}"
        )


def _open(values: Mapping[str, SecretStr]) -> dict[str, str]:
    return {key: value.get_secret_value() for key, value in values.items()}


@contextmanager
def _values_hidden(values: Collection[str]) -> Iterator[None]:
    """Remove values from ZenML's errors, which may quote their arguments."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - its cause would quote them as well
        raise StackError(_without(one_line(error), values)) from None


def _without(text: str, values: Collection[str]) -> str:
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    return text
