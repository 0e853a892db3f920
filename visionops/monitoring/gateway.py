"""Push metrics to a Pushgateway, with authentication and clear errors."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visionops.errors import StackError

__all__ = ["JOB", "Pushgateway"]

JOB = "visionops_pipelines"
"""Label of all pushed groups."""

_PATIENCE_S = 10.0
_GROUPS = "api/v1/metrics"
_LOGIN_FIX = "set VISIONOPS_PUSHGATEWAY_USERNAME and VISIONOPS_PUSHGATEWAY_PASSWORD to a login that it accepts"
_CA_FIX = "set VISIONOPS_PUSHGATEWAY_CA to the certificate of the authority that signed it"
_URL_FIX = "start it, or set VISIONOPS_PUSHGATEWAY to a running one"


class _Refusal(Exception):
    """The gateway refused a request; has the reason and the fix."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


@dataclasses.dataclass(frozen=True, slots=True)
class Pushgateway:
    """Address and login of the gateway to which pipelines push metrics. Without a URL nothing is pushed."""

    url: str = ""
    """URL, such as ``https://host:9091``."""
    username: str = ""
    """User name; "" where the gateway requires no login."""
    password: str = dataclasses.field(default="", repr=False)
    ca: str = dataclasses.field(default="", repr=False)
    """Certificate of the authority that signed the gateway's: a file, or its text (PEM). The system's authorities are
    trusted, too."""

    def __bool__(self) -> bool:
        """Return whether metrics are pushed."""
        return bool(self.url)

    def push(
        self,
        group: Mapping[str, str],
        figures: Mapping[str, Any],
        described: Mapping[str, str],
        *,
        replace: bool,
        patience: float = _PATIENCE_S,
    ) -> None:
        """Push gauges into a group; do nothing without a URL.

        Args:
            group: Labels of the group beside the job.
            figures: Name of a metric to a number, or to one for each set of labels (pairs of name and value).
            described: Name of a metric to its description.
            replace: Whether to remove all other metrics of the group; otherwise only these names are replaced.
            patience: Timeout in seconds.

        Raises:
            StackError: The gateway does not answer, or refuses the metrics.
        """
        if not self:
            return
        from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, pushadd_to_gateway

        registry = CollectorRegistry()
        for name, figure in figures.items():
            values = figure if isinstance(figure, Mapping) else {(): figure}
            if not values:
                continue  # a gauge without labels would report 0
            gauge = Gauge(name, described[name], [key for key, _ in next(iter(values))], registry=registry)
            for labels, value in values.items():
                (gauge.labels(**dict(labels)) if labels else gauge).set(float(value))
        push = push_to_gateway if replace else pushadd_to_gateway
        try:
            push(self.url, JOB, registry, dict(group), timeout=patience, handler=self._handler)
        except _Refusal as refusal:
            raise StackError(f"Pushgateway {self.url}: accepts no metrics ({refusal.why}); {refusal.fix}") from refusal

    def require_ready(self, patience: float = 5.0) -> None:
        """Check that the gateway answers, with this login and over a trusted connection.

        Raises:
            StackError: It does not; the message has the reason and the fix.
        """
        try:
            self._request("-/ready", "GET", patience)
        except _Refusal as refusal:
            raise StackError(f"Pushgateway {self.url}: does not answer ({refusal.why}); {refusal.fix}") from refusal

    def forget(self, labels: Mapping[str, str], age: float) -> int:
        """Delete groups that were not pushed to for a while; gateways that cannot list their groups keep them.

        Args:
            labels: Labels that a group must have.
            age: Seconds since its last push.

        Returns:
            Number of deleted groups.

        Raises:
            StackError: The gateway does not answer, or does not let them be deleted.
        """
        if not self:
            return 0
        from prometheus_client import delete_from_gateway

        try:
            found = json.loads(self._request(_GROUPS, "GET", _PATIENCE_S))["data"]
        except (_Refusal, KeyError, TypeError, ValueError):
            return 0
        wanted = {"job": JOB, **labels}
        old = [
            group["labels"]
            for group in found
            if wanted.items() <= group["labels"].items() and _pushed_at(group) < time.time() - age
        ]
        for group in old:
            keys = {name: value for name, value in group.items() if name != "job"}
            try:
                delete_from_gateway(self.url, JOB, keys, timeout=_PATIENCE_S, handler=self._handler)
            except _Refusal as refusal:
                raise StackError(f"Pushgateway {self.url}: deletes nothing ({refusal.why})") from refusal
        return len(old)

    def _handler(
        self, url: str, method: str, timeout: float | None, headers: Sequence[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        """Return a request handler, because prometheus_client's needs a client certificate to trust an authority."""

        def handle() -> None:
            self._send(url, method, timeout, dict(headers), data or None)

        return handle

    def _request(self, path: str, method: str, timeout: float) -> bytes:
        base = self.url if "://" in self.url else f"http://{self.url}"  # as prometheus_client does
        return self._send(f"{base.rstrip('/')}/{path}", method, timeout, {}, None)

    def _send(
        self, url: str, method: str, timeout: float | None, headers: Mapping[str, str], data: bytes | None
    ) -> bytes:
        try:
            request = urllib.request.Request(url, data=data, headers=dict(headers), method=method)  # noqa: S310
            if self.username:
                login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
                request.add_unredirected_header("Authorization", f"Basic {login}")
            opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self._context(url)))
            with opener.open(request, timeout=timeout) as answer:
                content: bytes = answer.read()
                return content
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._refusal(error) from error

    def _context(self, url: str) -> ssl.SSLContext | None:
        if not url.startswith("https:"):
            return None
        context = ssl.create_default_context()
        if self.ca:
            is_text = "-----BEGIN" in self.ca
            try:
                context.load_verify_locations(**({"cadata": self.ca} if is_text else {"cafile": self.ca}))
            except OSError as error:  # includes ssl.SSLError
                what = "the certificate of its authority" if is_text else self.ca
                why = error.strerror if not isinstance(error, ssl.SSLError) else "no certificate in PEM"
                raise _Refusal(f"{what} cannot be read: {why}", _CA_FIX) from error
        return context

    def _refusal(self, error: Exception) -> _Refusal:
        if isinstance(error, urllib.error.HTTPError):
            with error:
                said = " ".join(error.read(400).decode(errors="replace").split())[:200]
            if error.code in {401, 403}:
                why = "refuses the login" if self.username else "wants a login"
                return _Refusal(f"{why} ({error.code})", _LOGIN_FIX)
            fix = "start VISIONOPS_PUSHGATEWAY with https://" if "HTTPS server" in said else _URL_FIX
            return _Refusal(f"{error.code} {said}".strip(), fix)
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return _Refusal(f"its certificate is not trusted: {reason.verify_message.rstrip('.')}", _CA_FIX)
        return _Refusal(_words(reason), _URL_FIX)


def _words(reason: object) -> str:
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, socket.gaierror):
        return "unknown host name"
    if isinstance(reason, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(reason):
        return "it speaks plain HTTP"
    return type(reason).__name__ if isinstance(reason, Exception) else str(reason)


def _pushed_at(group: Mapping[str, Any]) -> float:
    """Return the time of a group's last push, in seconds since 1970."""
    return float(group["push_time_seconds"]["metrics"][0]["value"])
