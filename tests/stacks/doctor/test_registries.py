"""Test the checks of image registries."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stacks.doctor.findings import Examined
from stacks.doctor.registries import check_container_registry, check_image
from tests.helpers.doctor import BASIC, examined, trouble, well
from tests.helpers.web import Answers, answering

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


def registry(server: Answers | str) -> Examined:
    host = (server if isinstance(server, str) else server.url).removeprefix("http://")
    return examined("container_registry", "default", uri=f"{host}/team")


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Answers], None]:
    """Return a function that writes the same files as `docker login`."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))

    def log_in(server: Answers) -> None:
        login = base64.b64encode(b"me:mine").decode()
        auths = {server.url.removeprefix("http://"): {"auth": login}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))

    return log_in


def test_a_registry_takes_the_login_of_the_engines(logged_in, nobody):
    with answering({"/v2/": {}}, authorization=BASIC) as server:
        seen = trouble(check_container_registry(registry(server)))
        assert "requires a login; docker login 127.0.0.1:" in seen
        logged_in(server)
        assert "answers, to me" in well(check_container_registry(registry(server)))
        server.authorization = "Basic other"
        assert "refuses the login of me; docker login" in trouble(check_container_registry(registry(server)))
    with answering({"/v2/": {}}) as server:
        assert "without a login" in well(check_container_registry(registry(server)))
    with answering({}) as server:
        assert "not an image registry (404); correct VISIONOPS" in trouble(check_container_registry(registry(server)))
    assert "does not answer (connection refused); start it" in trouble(check_container_registry(registry(nobody)))


def test_a_registry_may_want_a_token(logged_in):
    with answering({"/token": {"token": "t"}}, authorization=BASIC) as tokens:
        realm = f'Bearer realm="{tokens.url}/token",service="registry"'
        manifest = {"/v2/": {}, "/v2/team/serving/manifests/1": {}}
        with answering(manifest, authorization="Bearer t", realm=realm) as server:
            assert "requires a login" in trouble(check_container_registry(registry(server)))
            logged_in(server)
            assert "answers, to me" in well(check_container_registry(registry(server)))
            image = f"{server.url.removeprefix('http://')}/team/serving:1"
            assert "is in its registry" in well(check_image(image))
            seen = trouble(check_image(image[:-1] + "2"))
            assert "; build it (make images) and push it" in seen
