"""Alertmanager and Pushgateway."""

from __future__ import annotations

from collections.abc import Iterator

from stacks.doctor.findings import Examined, Finding, broken, ok, warning
from stacks.doctor.web import ask
from visionops.errors import StackError

__all__ = ["check_alerter"]


def check_alerter(examined: Examined) -> Iterator[Finding]:
    """Ours: people are told by Alertmanager, figures go to the Pushgateway."""
    from stacks.alerter import AlertmanagerConfig

    config = AlertmanagerConfig(**examined.component.configuration)
    login = (config.username, str(config.password or "")) if config.username else None
    if config.url:
        yield _check("Alertmanager", config.url, "/api/v2/status", "VISIONOPS_ALERTMANAGER", login)
    else:
        yield warning("no Alertmanager: nobody is told of an alert", "set VISIONOPS_ALERTMANAGER to its URL")
    if config.pushgateway_url:
        yield _check("Pushgateway", config.pushgateway_url, "/-/ready", "VISIONOPS_PUSHGATEWAY", None)


def _check(name: str, url: str, path: str, variable: str, login: tuple[str, str] | None) -> Finding:
    try:
        answer = ask(f"{url.rstrip('/')}{path}", login=login)
    except StackError as error:
        return broken(f"{name} {url}: does not answer ({error})", f"start it, or set {variable} to one that runs")
    if answer.status_code in {401, 403}:
        return broken(
            f"{name} {url}: refuses the login ({answer.status_code})", "set the alerter's username and password"
        )
    if not answer.ok:
        return broken(f"{name} {url}: is not ready ({answer.status_code})", f"see its log, or correct {variable}")
    return ok(f"{name} {url}: ready")
