"""What tells people."""

import pytest

from stacks.doctor.alerting import check_alertmanager, check_pushgateway
from stacks.doctor.findings import Examined
from tests.helpers.doctor import BASIC, examined, trouble, well
from tests.helpers.web import answering

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


def test_what_tells_people_is_asked(nobody):
    def alerter(**own: str) -> Examined:
        return examined("alerter", "visionops_alertmanager", **own)

    assert trouble(check_alertmanager(alerter())).startswith("warning: no Alertmanager: nobody is told")
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
