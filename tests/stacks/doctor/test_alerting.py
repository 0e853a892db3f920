"""Test the checks of Alertmanager and Pushgateway."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from stacks.doctor.alerting import check_alertmanager, check_pushgateway
from stacks.doctor.findings import Examined
from tests.helpers.doctor import BASIC, examined, trouble, well
from tests.helpers.programs import secured_pushgateway
from tests.helpers.web import answering

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


def test_the_alertmanager_and_the_pushgateway_are_checked(nobody):
    def alerter(**own: str) -> Examined:
        return examined("alerter", "visionops_alertmanager", **own)

    assert trouble(check_alertmanager(alerter())).startswith("warning: no Alertmanager: nobody receives")
    assert list(check_pushgateway(alerter())) == []
    with answering({"/api/v2/status": {}, "/-/ready": {}}, authorization=BASIC) as server:
        seen = trouble(check_alertmanager(alerter(url=server.url)))
        assert "refuses the login (401); set the alerter's username" in seen
        assert "ready" in well(check_alertmanager(alerter(url=server.url, username="me", password="mine")))
        server.authorization = ""
        assert "ready" in well(check_pushgateway(alerter(pushgateway_url=server.url)))
        server.answers["/api/v2/status"] = 503
        assert "is not ready (503)" in trouble(check_alertmanager(alerter(url=server.url)))
    gone = trouble(check_pushgateway(alerter(pushgateway_url=nobody)))
    assert f"Pushgateway {nobody}: does not answer (connection refused); start it, or set VISIONOPS_PUSH" in gone
    assert f"Alertmanager {nobody}: does not answer" in trouble(check_alertmanager(alerter(url=nobody)))


def test_a_pushgateway_is_checked_with_its_login_over_tls(tmp_path: Path):
    def seen(**changes: str) -> Examined:
        given = dataclasses.asdict(dataclasses.replace(gateway, **changes))
        own: dict[str, Any] = {f"pushgateway_{key}": value for key, value in given.items()}
        return examined("alerter", "visionops_alertmanager", **own)

    with secured_pushgateway(tmp_path / "run") as gateway:
        assert well(check_pushgateway(seen())).endswith(": ready, login accepted, certificate trusted")
        wrong = trouble(check_pushgateway(seen(password="wrong")))
        assert wrong.startswith(
            f"broken: Pushgateway {gateway.url}: does not answer (refuses the login (401)); set VIS"
        )
        assert "(its certificate is not trusted: unable" in trouble(check_pushgateway(seen(ca="")))
        assert "(wants a login (401)); set VISIONOPS" in trouble(check_pushgateway(seen(username="", password="")))
    with answering({"/-/ready": {}}) as server:
        plain = trouble(check_pushgateway(seen(url=server.url)))
        assert plain.startswith(f"warning: Pushgateway {server.url}: its password is sent in plain text; use https://")
