"""Test the checks of ZenML's server."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from stacks.doctor.diagnosis import diagnose
from stacks.doctor.findings import State
from stacks.doctor.server import check_server_for_pods, check_zenml, with_secrets
from tests.helpers.doctor import store, trouble, well
from tests.helpers.web import answering
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


@contextmanager
def zenml_at(url: str, folder: Path) -> Iterator[None]:
    """Configure ZenML's client to use the server at ``url``."""
    from zenml.config.global_config import GlobalConfiguration
    from zenml.login.credentials_store import CredentialsStore

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZENML_CONFIG_PATH", str(folder))
        patch.setenv("ZENML_STORE_URL", url)
        patch.setenv("ZENML_STORE_API_KEY", "expired")
        before = GlobalConfiguration.get_instance()
        GlobalConfiguration._reset_instance()
        CredentialsStore.reset_instance()
        try:
            yield
        finally:
            GlobalConfiguration._reset_instance(before)
            CredentialsStore.reset_instance()


def zenml_answers(version_: str) -> dict[str, Any]:
    info = {"id": "00000000-0000-0000-0000-000000000001", "version": version_, "auth_scheme": "OAUTH2_PASSWORD_BEARER"}
    return {"/health": "OK", "/api/v1/info": info}


def test_a_zenml_server_that_is_away_of_another_version_or_does_not_know_us_is_named(nobody, tmp_path):
    ours = version("zenml")
    with zenml_at(nobody, tmp_path / "away"):
        seen = trouble(check_zenml())
        assert f"ZenML server {nobody}: does not answer" in seen
        assert "`zenml logout`" in seen
        with pytest.raises(StackError, match=r"or name the stack: visionops stack doctor NAME"):
            diagnose()
        with pytest.raises(StackError, match="does not answer"):
            diagnose("of_zenml_only")
    with answering(zenml_answers(ours), authorization="nobody has it") as server, zenml_at(server.url, tmp_path / "a"):
        assert f"{server.url}: missing or expired login; zenml login" in trouble(check_zenml())
    with answering(zenml_answers("0.50.1"), authorization="no") as server, zenml_at(server.url, tmp_path / "b"):
        other = next(check_zenml())
    assert (other.state, other.observed) == (State.BROKEN, f"{server.url}: ZenML 0.50.1, but this machine has {ours}")
    assert other.fix == f"run ZenML {ours} there, or install 0.50.1 here"


def test_steps_elsewhere_need_a_zenml_server(zenml_home, tmp_path):
    assert "without a server" in well(check_zenml())
    assert "steps run elsewhere, but ZenML is a file on this machine; zenml login https" in trouble(
        check_server_for_pods()
    )
    with zenml_at("http://localhost:8237", tmp_path):
        assert "http://localhost:8237: in a pod this is the pod itself; set" in trouble(check_server_for_pods())
    with zenml_at("https://zenml.example.com", tmp_path):
        assert not list(check_server_for_pods())


def test_secrets_of_zenml_are_filled_in_or_named(zenml_home):
    from zenml.client import Client

    component = store("http://x", key="{{s3.key}}").component
    with pytest.raises(StackError, match=r"secret s3: missing, but the stack names it; zenml secret create s3 --"):
        with_secrets(component)
    secret = Client().create_secret("s3", {"other": "x"})
    with pytest.raises(
        StackError, match="secret s3: missing key key, which the stack names; zenml secret update s3 --key"
    ):
        with_secrets(component)
    Client().update_secret(secret.id, add_or_update_values={"key": "me"})
    assert with_secrets(component).configuration["key"] == "me"
    Client().delete_secret(str(secret.id))
