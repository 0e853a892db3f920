"""Define ZenML alerter flavor ``visionops_alertmanager``, which sends alerts to Prometheus' Alertmanager.

Alertmanager groups, silences and routes alerts; its configuration lists the receivers
(deploy/monitoring/alertmanager). Only ZenML is imported at the top: every `zenml` command loads this module.
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
    """Details that `post` sends with its message."""

    name: str = "VisionOpsMessage"
    severity: Severity = Severity.WARNING
    use_case: str = ""
    summary: str = ""
    """Summary of the alert; the first line of the message when empty."""
    hours: float = 1.0
    """Hours for which the alert stays active."""


class AlertmanagerConfig(BaseAlerterConfig):
    """Addresses and logins for alerts and metrics."""

    url: str = ""
    """URL of Alertmanager, for example ``http://127.0.0.1:9093``; "" sends no alerts."""
    pushgateway_url: str = ""
    """URL of the Pushgateway for pipeline metrics, for example ``https://host:9091``; "" pushes none."""
    pushgateway_username: str = ""
    """User name for the Pushgateway, best as ``{{secret.key}}`` of ZenML; "" if it needs no login."""
    pushgateway_password: str | None = SecretField(default=None)
    """Password for the Pushgateway, best as ``{{secret.key}}`` of ZenML."""
    pushgateway_ca: str = ""
    """Certificate of the authority that signed the Pushgateway's certificate: a file on the machine that pushes, or the
    PEM text, which also works in pods."""
    username: str = ""
    """User name for Alertmanager, if it needs a login."""
    password: str | None = SecretField(default=None)
    """Password for Alertmanager, best as ``{{secret.key}}`` of ZenML."""

    # Runs before validation: later, reading a reference looks the secret up in ZenML, which may not have it yet.
    @model_validator(mode="before")
    @classmethod
    def _check_pushgateway(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        url, username, password = (str(data.get(f"pushgateway_{key}") or "") for key in ("url", "username", "password"))
        if "@" in urlsplit(url).netloc:
            raise ValueError(
                "pushgateway_url: contains a login; set pushgateway_username and pushgateway_password instead"
            )
        if bool(username) != bool(password):
            lacks, has = ("USERNAME", "password") if password else ("PASSWORD", "username")
            raise ValueError(
                f"pushgateway_{lacks.lower()}: missing, but the {has} is set; set VISIONOPS_PUSHGATEWAY_{lacks}"
            )
        return data

    def pushgateway(self) -> Pushgateway:
        """Return the Pushgateway, with its login.

        Raises:
            StackError: The secret that holds the login is missing from ZenML.
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
                f"Pushgateway {self.pushgateway_url}: {error.args[0]} Create it with zenml secret create, or set "
                "VISIONOPS_PUSHGATEWAY_USERNAME and VISIONOPS_PUSHGATEWAY_PASSWORD and apply the stack"
            ) from error


class AlertmanagerAlerter(BaseAlerter):
    """Alerter that posts to Alertmanager."""

    @property
    def config(self) -> AlertmanagerConfig:
        """The component's configuration."""
        return cast("AlertmanagerConfig", self._config)

    def send(self, alerts: Sequence[Alert]) -> None:
        """Send all alerts in one request, or without an Alertmanager print them to the terminal only.

        Raises:
            StackError: Alertmanager does not answer, or refuses them.
        """
        if self.config.url:
            self._post([_as_posted(alert) for alert in alerts])
            return
        for alert in alerts:
            if alert.lasts:
                print(f"alert not sent, VISIONOPS_ALERTMANAGER is not set: {alert.summary}", file=sys.stderr)

    def post(self, message: str, params: BaseAlerterStepParameters | None = None) -> bool:
        """Send one alert, as ZenML's hooks do.

        Args:
            params: `AlertmanagerParameters`; parameters of another alerter are ignored.

        Returns:
            Whether an Alertmanager is set.

        Raises:
            StackError: As `send`.
        """
        given = params if isinstance(params, AlertmanagerParameters) else AlertmanagerParameters()
        alert = Alert(
            name=given.name,
            severity=given.severity,
            use_case=given.use_case,
            summary=given.summary or message.strip().partition("\n")[0],
            description=message.strip(),
            runbook=f"docs/how-to/alerts.md#{given.name.lower()}",
            lasts=timedelta(hours=given.hours),
        )
        self.send([alert])
        return bool(self.config.url)

    def ask(self, question: str, params: BaseAlerterStepParameters | None = None) -> bool:
        """Refuse to ask a question, which Alertmanager cannot do.

        Raises:
            StackError: Always.
        """
        del params
        raise StackError(f"alerter {self.name!r}: Alertmanager cannot ask questions; not sent: {question}")

    def _post(self, body: Sequence[dict[str, Any]]) -> None:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3 import Retry

        # Alertmanager deduplicates alerts, so a retry is safe when it is unknown whether the first one arrived.
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
                "VISIONOPS_ALERTMANAGER to a running one"
            ) from error
        if not answer.ok:
            why = " ".join(answer.text.split())[:200]
            raise StackError(f"Alertmanager {self.config.url}: refuses alerts ({answer.status_code} {why})")


class AlertmanagerFlavor(BaseAlerterFlavor):
    """Registers `AlertmanagerAlerter` with ZenML."""

    @property
    def name(self) -> str:
        """Return the name of the flavor."""
        return _FLAVOR

    @property
    def config_class(self) -> type[AlertmanagerConfig]:
        """The component's configuration."""
        return AlertmanagerConfig

    @property
    def implementation_class(self) -> type[AlertmanagerAlerter]:
        """Return the class of the component."""
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
        "startsAt": now.isoformat(),  # without it Alertmanager uses the end as the start
        "endsAt": (now + alert.lasts).isoformat(),
    }
