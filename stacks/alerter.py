"""ZenML alerter flavor ``visionops_alertmanager``: people are told through Prometheus' Alertmanager.

It groups, silences and routes; who gets a mail is written there (deploy/monitoring/alertmanager). Only ZenML is
imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import model_validator
from zenml.alerter.base_alerter import (
    BaseAlerter,
    BaseAlerterConfig,
    BaseAlerterFlavor,
    BaseAlerterStepParameters,
)
from zenml.utils.secret_utils import SecretField

from visionops.alerts import Alert, Severity
from visionops.errors import StackError
from visionops.monitoring.gateway import Pushgateway

__all__ = ["AlertmanagerAlerter", "AlertmanagerConfig", "AlertmanagerFlavor", "AlertmanagerParameters"]

_FLAVOR = "visionops_alertmanager"
_PATIENCE_S = 10
_TRIES = 3


class AlertmanagerParameters(BaseAlerterStepParameters):
    """What `post` tells beside its message."""

    name: str = "VisionOpsMessage"
    severity: Severity = Severity.WARNING
    use_case: str = ""
    summary: str = ""
    """The message's first line when absent."""
    hours: float = 1.0
    """So long it is true."""


class AlertmanagerConfig(BaseAlerterConfig):
    """Where alerts and figures go."""

    url: str = ""
    """Of Alertmanager, as ``http://127.0.0.1:9093``; "": nobody is told."""
    pushgateway_url: str = ""
    """Of the Pushgateway that pipelines push their figures to, as ``https://host:9091``; "": none."""
    pushgateway_username: str = ""
    """Of the Pushgateway; "" where it wants no login. As ``{{secret.key}}`` of ZenML, as the next two."""
    pushgateway_password: str | None = SecretField(default=None)
    """Of the Pushgateway."""
    pushgateway_ca: str = ""
    """Certificate of the authority that signed the Pushgateway's: a file of the machine that pushes, or its text (PEM),
    which pods have, too."""
    username: str = ""
    """Of Alertmanager, where it asks for one."""
    password: str | None = SecretField(default=None)
    """As ``{{secret.key}}`` of ZenML."""

    # Before: afterwards an attribute that refers to a secret is looked up in ZenML, which may not have it yet.
    @model_validator(mode="before")
    @classmethod
    def _check_pushgateway(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        url, username, password = (str(data.get(f"pushgateway_{key}") or "") for key in ("url", "username", "password"))
        if "@" in urlsplit(url).netloc:
            raise ValueError("pushgateway_url: holds a login; give it by pushgateway_username and pushgateway_password")
        if bool(username) != bool(password):
            lacks, has = ("USERNAME", "password") if password else ("PASSWORD", "username")
            raise ValueError(
                f"pushgateway_{lacks.lower()}: is missing, and there is a {has}; set VISIONOPS_PUSHGATEWAY_{lacks}"
            )
        return data

    def pushgateway(self) -> Pushgateway:
        """Return the Pushgateway, with its login.

        Raises:
            StackError: ZenML has not the secret that holds it.
        """
        try:
            return Pushgateway(
                url=self.pushgateway_url,
                username=self.pushgateway_username,
                password=self.pushgateway_password or "",
                ca=self.pushgateway_ca,
            )
        except KeyError as error:
            raise StackError(
                f"Pushgateway {self.pushgateway_url}: {error.args[0]} Make it by zenml secret create, or set "
                "VISIONOPS_PUSHGATEWAY_USERNAME and VISIONOPS_PUSHGATEWAY_PASSWORD and apply the stack"
            ) from error


class AlertmanagerAlerter(BaseAlerter):
    """Posts to Alertmanager."""

    @property
    def config(self) -> AlertmanagerConfig:
        """The component's configuration."""
        return cast("AlertmanagerConfig", self._config)

    def send(self, alerts: Sequence[Alert]) -> None:
        """Tell people, all at once. Without an Alertmanager that is said on the terminal, and nobody is told.

        Raises:
            StackError: Alertmanager does not answer, or refuses them.
        """
        if self.config.url:
            self._post([_as_posted(alert) for alert in alerts])
            return
        for alert in alerts:
            if alert.lasts:
                print(f"nobody is told, for want of $VISIONOPS_ALERTMANAGER: {alert.summary}", file=sys.stderr)

    def post(self, message: str, params: BaseAlerterStepParameters | None = None) -> bool:
        """ZenML's way in, as its hooks use it.

        Args:
            params: `AlertmanagerParameters`; those of another alerter are passed over.

        Returns:
            Whether there is an Alertmanager.

        Raises:
            StackError: As `send`.
        """
        told = params if isinstance(params, AlertmanagerParameters) else AlertmanagerParameters()
        alert = Alert(
            name=told.name,
            severity=told.severity,
            use_case=told.use_case,
            summary=told.summary or message.strip().partition("\n")[0],
            description=message.strip(),
            runbook=f"docs/how-to/alerts.md#{told.name.lower()}",
            lasts=timedelta(hours=told.hours),
        )
        self.send([alert])
        return bool(self.config.url)

    def ask(self, question: str, params: BaseAlerterStepParameters | None = None) -> bool:
        """Nobody can be asked.

        Raises:
            StackError: Always.
        """
        del params
        raise StackError(f"alerter {self.name!r}: Alertmanager brings no answers back; nobody was asked: {question}")

    def _post(self, body: Sequence[dict[str, Any]]) -> None:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3 import Retry

        # The same alert twice is one alert, so it may be sent again when it is not known whether it arrived.
        again = Retry(_TRIES, backoff_factor=0.1, status_forcelist=(502, 503, 504), allowed_methods=None)
        url = f"{self.config.url.rstrip('/')}/api/v2/alerts"
        login = (self.config.username, self.config.password or "") if self.config.username else None
        try:
            with requests.Session() as session:
                session.mount(url, HTTPAdapter(max_retries=again))
                answer = session.post(url, json=body, auth=login, timeout=_PATIENCE_S)
        except requests.RequestException as error:
            raise StackError(
                f"Alertmanager {self.config.url}: does not answer ({type(error).__name__}); start it, or set "
                "VISIONOPS_ALERTMANAGER to one that runs"
            ) from error
        if not answer.ok:
            why = " ".join(answer.text.split())[:200]
            raise StackError(f"Alertmanager {self.config.url}: refuses alerts ({answer.status_code} {why})")


class AlertmanagerFlavor(BaseAlerterFlavor):
    """Registers `AlertmanagerAlerter` with ZenML."""

    @property
    def name(self) -> str:
        """Of the flavor."""
        return _FLAVOR

    @property
    def config_class(self) -> type[AlertmanagerConfig]:
        """The component's configuration."""
        return AlertmanagerConfig

    @property
    def implementation_class(self) -> type[AlertmanagerAlerter]:
        """The component."""
        return AlertmanagerAlerter


def _as_posted(alert: Alert) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "labels": {
            "alertname": alert.name,
            "severity": alert.severity.value,
            "use_case": alert.use_case,
            "job": "visionops_pipelines",
        },
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": alert.runbook,
        },
        "startsAt": now.isoformat(),  # without it Alertmanager takes the end for the start
        "endsAt": (now + alert.lasts).isoformat(),
    }
