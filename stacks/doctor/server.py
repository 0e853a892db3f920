"""Check ZenML's server or database and the stack in it, and read its secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from stacks.apply import Action, Change, apply
from stacks.credentials import fill_references
from stacks.doctor.findings import CheckResult, broken, of_error, ok, warning
from stacks.doctor.web import NO_ANSWER_SECONDS, ask
from stacks.spec import ComponentSpec, ComponentType, StackSpec, known_stacks
from stacks.zenml_server import require_zenml_server
from visionops.errors import StackError

__all__ = ["check_applied", "check_reach", "check_server_for_pods", "check_zenml", "registered_stack", "with_secrets"]

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def _store_url() -> str:
    """Return the URL of ZenML's server, or of the database that it uses without a server."""
    from zenml.config.global_config import GlobalConfiguration

    return str(GlobalConfiguration().store_configuration.url)


def check_zenml() -> Iterator[CheckResult]:
    """Check that ZenML's server answers, has our version and accepts our login."""
    from zenml.config.global_config import GlobalConfiguration
    from zenml.exceptions import AuthorizationException

    url = _store_url()
    if not url.startswith(("http://", "https://")):
        path = Path(url.removeprefix("sqlite:///"))
        if url.startswith("sqlite:") and not path.exists():
            yield ok(f"{path}: the first `visionops stack apply` creates it")
            return
        _ = GlobalConfiguration().zen_store
        yield ok(f"ZenML {version('zenml')} without a server" + (f", in {path}" if url.startswith("sqlite:") else ""))
        return
    try:
        require_zenml_server(NO_ANSWER_SECONDS)
        theirs = str(ask(f"{url.rstrip('/')}/api/v1/info").json()["version"])
    except StackError as error:
        yield of_error(error)
        return
    except (ValueError, KeyError, TypeError):
        yield broken(f"{url}: answers, but is not ZenML", "run zenml login with the URL of ZenML's server")
        return
    ours = version("zenml")
    if theirs != ours:
        how = warning if theirs.rpartition(".")[0] == ours.rpartition(".")[0] else broken
        yield how(
            f"{url}: ZenML {theirs}, but this machine has {ours}", f"run ZenML {ours} there, or install {theirs} here"
        )
    try:
        _ = GlobalConfiguration().zen_store
    except AuthorizationException:
        yield broken(f"{url}: missing or expired login", f"zenml login {url}")
        return
    if theirs == ours:
        yield ok(f"{url}: ZenML {theirs}, logged in")


def check_server_for_pods() -> Iterator[CheckResult]:
    """Check that steps on other machines can reach ZenML."""
    url = _store_url()
    if url.startswith("sqlite:"):
        yield broken(
            "steps run elsewhere, but ZenML is a file on this machine", "zenml login https://… to a server they reach"
        )
    yield from check_reach([url])


def check_reach(texts: Iterable[str]) -> Iterator[CheckResult]:
    """Warn of loopback addresses, which in a pod mean the pod itself."""
    for text in sorted(set(texts)):
        if "://" in text and urlsplit(text).hostname in _LOOPBACK:
            yield warning(f"{text}: in a pod this is the pod itself", "set an address that pods can reach as well")


def check_applied(name: str) -> Iterator[CheckResult]:
    """Check that the stack in ZenML matches its file."""
    fix = f"visionops stack apply {name}"
    changes = apply(name, dry_run=True)
    if not changes:
        yield ok("ZenML matches the file")
    elif any((change.kind, change.action) == ("stack", Action.CREATE) for change in changes):
        yield warning("not in ZenML yet", fix)
    else:
        yield broken(f"ZenML differs from the file: apply would {', '.join(map(_said, changes))}", fix)


def _said(change: Change) -> str:
    """Return a change as text, with its detail only if that lists changed settings."""
    with_detail = change.kind in set(ComponentType) and change.action == "update"
    return str(change) if with_detail else str(dataclasses.replace(change, detail=""))


def registered_stack(name: str) -> StackSpec:
    """Read a stack from ZenML that has no file.

    Raises:
        StackError: The stack is unknown, or ZenML's server does not answer.
    """
    from zenml.client import Client

    require_zenml_server(NO_ANSWER_SECONDS)
    try:
        found = Client().get_stack(name, allow_name_prefix_match=False)
    except KeyError as error:
        raise StackError(f"stack {name!r}: unknown; choose one of {', '.join(known_stacks())}") from error
    kinds = {kind.value for kind in ComponentType}
    components = {
        ComponentType(kind.value): ComponentSpec.model_construct(
            name=items[0].name, flavor=items[0].flavor_name, configuration=dict(items[0].configuration)
        )
        for kind, items in found.components.items()
        if kind.value in kinds
    }
    return StackSpec.model_construct(name=name, flavors=(), components=components)


def with_secrets(component: ComponentSpec, own: Mapping[str, Mapping[str, SecretStr]] | None = None) -> ComponentSpec:
    """Return the component with its references to ZenML's secrets replaced by their values.

    Args:
        own: Secrets of the stack file, which take precedence because `apply` writes them to ZenML.

    Raises:
        StackError: A secret is missing, or ZenML does not answer.
    """
    filled = _filled(fill_references(component.configuration, own or {}))
    if name := component.configuration.get("authentication_secret"):
        filled["authentication_secret"] = _values(str(name))
    return component.model_copy(update={"configuration": filled})


def _filled(value: Any) -> Any:
    from zenml.utils.secret_utils import is_secret_reference, parse_secret_reference

    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item) for item in value]
    if not is_secret_reference(value):
        return value
    reference = parse_secret_reference(value)
    values = _values(reference.name)
    if reference.key not in values:
        fix = f"zenml secret update {reference.name} --{reference.key}=…"
        raise StackError(f"ZenML's secret {reference.name}: missing key {reference.key}, which the stack names; {fix}")
    return values[reference.key]


def _values(name: str) -> dict[str, str]:
    from zenml.client import Client
    from zenml.exceptions import AuthorizationException

    try:
        require_zenml_server(NO_ANSWER_SECONDS)
        found = Client().get_secret(name, allow_partial_name_match=False, allow_partial_id_match=False)
    except KeyError as error:
        raise StackError(
            f"ZenML's secret {name}: missing, but the stack names it; zenml secret create {name} --KEY=…"
        ) from error
    except (StackError, AuthorizationException, RuntimeError, NotImplementedError) as error:
        raise StackError(f"ZenML's secret {name}: cannot be read; fix ZenML first") from error
    return dict(found.secret_values)
