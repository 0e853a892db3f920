"""Check the contract of every model deployer over the life of one endpoint, as steps and people see it.

A deployer passes when `check_life` does for its `Case`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from visionops.endpoint import Endpoint
from visionops.errors import BundleError, DeploymentError
from visionops.inference.settings import ServingConfig

SERVING = ServingConfig(port=0)


class Case(Protocol):
    """A deployer under test, observed from outside."""

    deployer: Any

    def version(self, endpoint: Endpoint) -> str | None:
        """Return the version that answers a prediction; None without a real server."""

    def uninterrupted(self) -> AbstractContextManager[None]:
        """Send requests from clients while the block runs; fail if one gets no answer."""

    def will_refuse(self, version: str) -> None:
        """Make the model deployed as ``version`` fail its smoke image."""

    def remains(self, name: str) -> list[str]:
        """List what exists of the endpoint, except bundles in a store."""


def check_life(case: Case, bundles: tuple[Path, Path], image: bytes, damaged: Path) -> None:
    """Deploy, predict, replace, refuse, list, stop, start, delete.

    Args:
        bundles: Two valid bundles.
        image: Image that both can answer.
        damaged: Bundle whose files do not match its card.
    """
    deployer = case.deployer

    def deploy(version: str, bundle: Path, smoke: bytes = image) -> Endpoint:
        return deployer.deploy_bundle(
            bundle, name="cells", version=version, alias="champion", serving=SERVING, smoke_images=[smoke]
        )

    def check_serves(version: str) -> None:
        found = deployer.find_endpoint("cells")
        assert (found.url, found.version, found.alias) == (first.url, version, "champion")
        assert found.key.get_secret_value()
        assert case.version(found) in {version, None}

    assert deployer.find_endpoint("cells") is None
    assert deployer.find_model_server() == []

    first = deploy("1", bundles[0])
    check_serves("1")
    (record,) = deployer.find_model_server(running=True)
    assert first.record == str(record.uuid)

    with case.uninterrupted():
        again = deploy("2", bundles[1])
    assert (again.url, again.version) == (first.url, "2")
    check_serves("2")

    with case.uninterrupted():
        with pytest.raises(BundleError, match="corrupt"):
            deploy("3", damaged)
        case.will_refuse("3")
        with pytest.raises(DeploymentError, match="smoke image 1") as refused:
            deploy("3", bundles[0], b"no image")
    assert "version 3" in str(refused.value)
    assert "\n" not in str(refused.value)
    check_serves("2")

    (found,) = deployer.find_model_server(model_name="cells", model_version="2")
    assert found.uuid == record.uuid
    assert deployer.find_model_server(flavor="mlflow") == []
    assert deployer.find_model_server(model_version="3") == deployer.find_model_server(model_name="other") == []
    info = deployer.get_model_server_info(found)
    assert (info["MODEL_NAME"], info["MODEL_VERSION"], info["MODEL_ALIAS"]) == ("cells", "2", "champion")
    assert info["PREDICTION_URL"] == f"{first.url}/predict"
    assert len(list(deployer.get_model_server_logs(record.uuid, tail=1))) == 1

    deployer.stop_model_server(record.uuid)
    assert deployer.find_endpoint("cells") is None
    (stopped,) = deployer.find_model_server()
    assert (stopped.status.state.value, stopped.check_status()[1]) == ("inactive", "stopped")

    deployer.start_model_server(record.uuid)
    check_serves("2")

    deployer.delete_model_server(record.uuid)
    assert deployer.find_endpoint("cells") is None
    assert deployer.find_model_server() == []
    assert case.remains("cells") == []
