"""Rate limits of clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.http.keys import Client, KeyRole, make_key
from deploy.serving.app import create_app
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import error_of, metric
from visionops.errors import ConfigError

RATE = {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}


def test_beyond_the_rate_it_answers_429_and_says_when_to_come_again(bundle: Path):
    with client_of(settings_of(bundle, rate="3/hour")) as client:
        left = []
        for _ in range(3):
            answer = client.get("/models")
            assert answer.status_code == 200
            assert "retry-after" not in answer.headers
            left.append(answer.headers["ratelimit-remaining"])
        assert left == ["2", "1", "0"]
        refused = client.post("/predict", files={"file": b"x"})
        assert (refused.status_code, error_of(refused)) == (429, "rate_limited")
        assert refused.headers["ratelimit-limit"] == "3"
        assert refused.headers["ratelimit-remaining"] == "0"
        assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"]
        assert 3500 < int(refused.headers["retry-after"]) <= 3600
        assert metric(client, 'visionops_rejected_total{reason="rate_limited"}') == 1


def test_probes_are_not_counted(bundle: Path):
    with client_of(settings_of(bundle, rate="1/hour")) as client:
        for path in ["/health", "/ready", "/metrics", "/v2/health/live", "/v2/health/ready"] * 2:
            answer = client.get(path)
            assert answer.status_code == 200
            assert not RATE & set(answer.headers)
        assert client.get("/nowhere").status_code == 404, "what is not there counts"
        assert client.get("/models").status_code == 429


def test_each_key_has_its_own_rate_and_no_key_takes_anothers(tmp_path: Path):
    one, two = (make_key(Client(name, KeyRole.PREDICT)) for name in ("one", "two"))
    keys = tmp_path / "keys"
    keys.write_text(f"{one[1]}\n{two[1]}\n")
    with TestClient(create_app(settings_of(None, keys=keys, rate="1/hour")), client=("192.0.2.7", 1)) as client:
        statuses = [
            client.get("/models", headers={"X-API-Key": key}).status_code
            for key in ("wrong", "wrong", one[0], one[0], two[0])
        ]
    assert statuses == [401, 401, 200, 429, 200]


def test_without_a_rate_nothing_is_said_of_it(client: TestClient):
    answers = [client.get("/models") for _ in range(50)]
    assert {answer.status_code for answer in answers} == {200}
    assert not RATE & set(answers[0].headers)


@pytest.mark.parametrize("rate", ["often", "-1/second", "1.5/second", "0/minute", "100/minute;5/second", "5/week"])
def test_an_invalid_rate_is_refused_at_the_start(rate: str):
    with pytest.raises(ConfigError, match=r"^--rate: .*write 100/minute"):
        create_app(settings_of(None, rate=rate))
