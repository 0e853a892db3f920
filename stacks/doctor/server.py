"""ZenML's server or database, what it has of the stack, and the secrets in it."""

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
    """Of ZenML's server, or of the database that it uses without one."""
    from zenml.config.global_config import GlobalConfiguration

    return str(GlobalConfiguration().store_configuration.url)


def check_zenml() -> Iterator[CheckResult]:
    """The server answers, is of our version, and knows who asks."""
    from zenml.config.global_config import GlobalConfiguration
    from zenml.exceptions import AuthorizationException

    url = _store_url()
    if not url.startswith(("http://", "https://")):
        path = Path(url.removeprefix("sqlite:///"))
        if url.startswith("sqlite:") and not path.exists():
            yield ok(f"{path}: is made by the first `visionops stack apply`")
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
        yield broken(f"{url}: answers, not as ZenML does", "zenml login with the URL of ZenML's server")
        return
    ours = version("zenml")
    if theirs != ours:
        how = warning if theirs.rpartition(".")[0] == ours.rpartition(".")[0] else broken
        yield how(f"{url}: ZenML {theirs}, and here is {ours}", f"run ZenML {ours} there, or install {theirs} here")
    try:
        _ = GlobalConfiguration().zen_store
    except AuthorizationException:
        yield broken(f"{url}: the login has expired, or there is none", f"zenml login {url}")
        return
    if theirs == ours:
        yield ok(f"{url}: ZenML {theirs}, logged in")


def check_server_for_pods() -> Iterator[CheckResult]:
    """Steps that run elsewhere ask ZenML, too."""
    url = _store_url()
    if url.startswith("sqlite:"):
        yield broken(
            "steps run elsewhere, and ZenML is a file of this machine", "zenml login https://… to one they reach"
        )
    yield from check_reach([url])


def check_reach(texts: Iterable[str]) -> Iterator[CheckResult]:
    """An address of this machine is another in a pod: its own."""
    for text in sorted(set(texts)):
        if "://" in text and urlsplit(text).hostname in _LOOPBACK:
            yield warning(f"{text}: in a pod that is the pod itself", "give an address that pods reach, too")


def check_applied(name: str) -> Iterator[CheckResult]:
    """Whether ZenML has the stack as its file says."""
    mend = f"visionops stack apply {name}"
    changes = apply(name, dry_run=True)
    if not changes:
        yield ok("ZenML has what the file says")
    elif any((change.kind, change.action) == ("stack", Action.CREATE) for change in changes):
        yield warning("not in ZenML yet", mend)
    else:
        yield broken(f"ZenML has another: apply would {', '.join(map(_said, changes))}", mend)


def _said(change: Change) -> str:
    """Without what is in its detail beside settings: import paths, and all components of a stack."""
    with_detail = change.kind in set(ComponentType) and change.action == "update"
    return str(change) if with_detail else str(dataclasses.replace(change, detail=""))


def registered_stack(name: str) -> StackSpec:
    """A stack of ZenML's that has no file.

    Raises:
        StackError: There is none, or ZenML's server does not answer.
    """
    from zenml.client import Client

    require_zenml_server(NO_ANSWER_SECONDS)
    try:
        found = Client().get_stack(name, allow_name_prefix_match=False)
    except KeyError as error:
        raise StackError(f"stack {name!r}: not known; choose one of {', '.join(known_stacks())}") from error
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
    """The component with the values of ZenML's secrets that it refers to.

    Args:
        own: Of the stack file: they are what ZenML's will be.

    Raises:
        StackError: One is not there, or ZenML cannot be asked.
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
    asked = parse_secret_reference(value)
    values = _values(asked.name)
    if asked.key not in values:
        mend = f"zenml secret update {asked.name} --{asked.key}=…"
        raise StackError(f"ZenML's secret {asked.name}: lacks {asked.key}, which the stack names; {mend}")
    return values[asked.key]


def _values(name: str) -> dict[str, str]:
    from zenml.client import Client
    from zenml.exceptions import AuthorizationException

    try:
        require_zenml_server(NO_ANSWER_SECONDS)
        found = Client().get_secret(name, allow_partial_name_match=False, allow_partial_id_match=False)
    except KeyError as error:
        raise StackError(
            f"ZenML has no secret {name}, which the stack names; zenml secret create {name} --KEY=…"
        ) from error
    except (StackError, AuthorizationException, RuntimeError, NotImplementedError) as error:
        raise StackError(f"ZenML's secret {name}: cannot be read; mend ZenML first") from error
    return dict(found.secret_values)
