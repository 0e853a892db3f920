"""Test the contract of each deployer: on this machine with real servers, on a cluster against its API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from stacks.deployers.containers import ContainerSettings
from stacks.deployers.engines import find_engine
from tests.helpers.bundles import make_bundle
from tests.helpers.cluster import NAMESPACE, Cluster, running_cluster
from tests.helpers.s3 import s3_bucket, s3_server
from tests.stacks.deployers.contract import check_life
from visionops.errors import DeploymentError
from visionops.inference.settings import ServingConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code

MACHINE = {
    "visionops_local": "stacks.deployers.local.LocalModelDeployerFlavor",
    "visionops_container": "stacks.deployers.container.ContainerModelDeployerFlavor",
}
CLUSTER = {
    "visionops_kubernetes": "stacks.deployers.kubernetes.KubernetesModelDeployerFlavor",
    "visionops_seldon": "stacks.deployers.seldon.SeldonModelDeployerFlavor",
    "visionops_kserve": "stacks.deployers.kserve.KServeModelDeployerFlavor",
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_bundle(tmp_path_factory.mktemp("damaged") / "cells").folder
    (folder / "model.onnx").write_bytes(b"not what the card says")
    return folder


def component(flavor: str, source: str, configuration: dict):
    """Return a model deployer as ZenML creates it."""
    from zenml.client import Client
    from zenml.enums import StackComponentType
    from zenml.stack import StackComponent

    client, kind = Client(), StackComponentType.MODEL_DEPLOYER
    if not client.list_flavors(name=flavor, type=kind).items:
        client.create_flavor(source, kind)
    made = client.create_stack_component(f"{flavor}-contract", flavor, kind, configuration)
    return StackComponent.from_model(made)


def require_image() -> None:
    """Skip unless podman or docker has the image of `make images`."""
    settings = ContainerSettings()
    try:
        find_engine(settings.engine, settings.image)
    except DeploymentError as error:
        pytest.skip(str(error))


class OnMachine:
    """Processes or containers on this machine."""

    def __init__(self, flavor: str, folder: Path, image: bytes) -> None:
        self.deployer = component(flavor, MACHINE[flavor], {"folder": str(folder / "serving")})
        self._folder, self._image = folder / "serving", image

    def version(self, endpoint):
        return self._ask(endpoint).json()["model"]["version"]

    @contextmanager
    def uninterrupted(self):
        endpoint, done = self.deployer.find_endpoint("cells"), threading.Event()

        def keep_asking() -> list[int]:
            answers = []
            while not done.is_set():
                answers.append(self._ask(endpoint).status_code)
            return answers

        with ThreadPoolExecutor(1) as pool:
            client = pool.submit(keep_asking)
            try:
                yield
            finally:
                done.set()
        assert set(client.result(60)) == {200}

    def will_refuse(self, version):
        """Do nothing: a real server refuses by itself."""

    def remains(self, name):
        return [str(path) for path in (self._folder / name).glob("*")]

    def _ask(self, endpoint) -> requests.Response:
        headers = {"X-API-Key": endpoint.key.get_secret_value()}
        return requests.post(f"{endpoint.url}/predict", files={"file": self._image}, headers=headers, timeout=60)


class OnCluster:
    """Pods of a cluster that consists of its API only."""

    def __init__(self, flavor: str, cluster: Cluster, store: str) -> None:
        configuration = {
            "namespace": NAMESPACE,
            "image": "registry/visionops-serving:1",
            "bundle_store": store,
            "service_url": "http://127.0.0.1:1",
            "poll_seconds": 0.001,
        }
        self.deployer = component(flavor, CLUSTER[flavor], configuration)
        self._cluster = cluster

    def version(self, endpoint):
        return None

    @contextmanager
    def uninterrupted(self):
        """Check that the Service always has a ready pod."""
        self._cluster.least_ready = 1000
        yield
        assert 1 <= self._cluster.least_ready < 1000
        self._cluster.least_ready = None

    def will_refuse(self, version):
        self._cluster.fates[version] = "crash"

    def remains(self, name):
        return sorted(self._cluster.names()) + sorted(self._cluster.pods)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with s3_server() as address, s3_bucket(address, "models") as uri:
        yield uri


@pytest.fixture(params=[*MACHINE, *CLUSTER])
def case(request, zenml_home, tmp_path, red_cell) -> Iterator:
    from zenml.client import Client

    with ExitStack() as stack:
        if request.param == "visionops_container":
            require_image()
        if request.param in MACHINE:
            case = OnMachine(request.param, tmp_path, red_cell)
        else:
            cluster = stack.enter_context(running_cluster(tmp_path))
            case = OnCluster(request.param, cluster, request.getfixturevalue("store"))
        yield case
        for service in case.deployer.find_model_server():  # left by a failed test
            case.deployer.delete_model_server(service.uuid, force=True)
    Client().delete_stack_component(f"{request.param}-contract", "model_deployer")


def test_one_life_of_an_endpoint(case, bundles, red_cell, damaged):
    check_life(case, bundles, red_cell, damaged)


@pytest.mark.parametrize("case", ["visionops_kubernetes"], indirect=True)
def test_a_deployment_on_a_cluster_reports_unchecked_parts(case, bundles):
    endpoint = case.deployer.deploy_bundle(
        bundles[0], name="cells", version="1", alias="champion", serving=ServingConfig()
    )
    reached, remembered = endpoint.remarks
    assert reached.startswith("http://127.0.0.1:1 cannot be reached from here")
    assert remembered.endswith("set serving.prediction_log_store")
    assert "remarks" not in endpoint.model_dump()
