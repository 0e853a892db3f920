"""Check Alertmanager and Pushgateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stacks.doctor.findings import CheckResult, Examined, broken, of_error, ok, warning
from stacks.doctor.web import ask
from visionops.errors import StackError

if TYPE_CHECKING:
    from stacks.alerter import AlertmanagerConfig

__all__ = ["check_alertmanager", "check_pushgateway"]


def check_alertmanager(examined: Examined) -> Iterator[CheckResult]:
    """Check that Alertmanager, which notifies people, is ready."""
    config = _config(examined)
    login = (config.username, str(config.password or "")) if config.username else None
    if config.url:
        yield _check("Alertmanager", config.url, "/api/v2/status", "VISIONOPS_ALERTMANAGER", login)
    else:
        yield warning("no Alertmanager: nobody receives alerts", "set VISIONOPS_ALERTMANAGER to its URL")


def check_pushgateway(examined: Examined) -> Iterator[CheckResult]:
    """Check that the Pushgateway, which receives pipeline metrics, is ready."""
    try:
        gateway = _config(examined).pushgateway()
        if not gateway:
            return
        gateway.require_ready()
    except StackError as error:
        yield of_error(error)
        return
    secured = gateway.url.startswith("https:")
    if gateway.username and not secured:
        yield warning(
            f"Pushgateway {gateway.url}: its password is sent in plain text", "use https:// if it supports TLS"
        )
        return
    how = [how for how, holds in (("login accepted", gateway.username), ("certificate trusted", secured)) if holds]
    yield ok(f"Pushgateway {gateway.url}: ready" + "".join(f", {each}" for each in how))


def _config(examined: Examined) -> AlertmanagerConfig:
    from stacks.alerter import AlertmanagerConfig

    return AlertmanagerConfig(**examined.component.configuration)


def _check(name: str, url: str, path: str, variable: str, login: tuple[str, str] | None) -> CheckResult:
    try:
        answer = ask(f"{url.rstrip('/')}{path}", login=login)
    except StackError as error:
        return broken(f"{name} {url}: does not answer ({error})", f"start it, or set {variable} to a running one")
    if answer.status_code in {401, 403}:
        return broken(
            f"{name} {url}: refuses the login ({answer.status_code})", "set the alerter's username and password"
        )
    if not answer.ok:
        return broken(f"{name} {url}: is not ready ({answer.status_code})", f"see its log, or correct {variable}")
    return ok(f"{name} {url}: ready")
