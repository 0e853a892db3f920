"""Test the release contract of each deployer with real servers: processes, containers and pods of a mock cluster.

The default suite has processes only; `make releases` adds the others, and more kinds of bad candidates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.helpers.bundles import make_bundle
from tests.helpers.cluster import NAMESPACE
from tests.helpers.live_pods import live_cluster
from tests.helpers.s3 import s3_bucket, s3_server
from tests.stacks.deployers.release_contract import LEAST, Life, check_bad, check_good, check_restart, serving
from tests.stacks.deployers.test_contract import CLUSTER, MACHINE, component, require_image
from tests.stacks.deployers.test_pod import command, environment
from visionops.endpoint import Candidate
from visionops.errors import BundleError, DeploymentError
from visionops.inference.bundle import ModelBundle

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # ZenML and SQLAlchemy warn of their own code
    pytest.mark.timeout(3600),  # the contract has its own time limits
]

_ALL = bool(os.environ.get("VISIONOPS_RELEASES"))
_more = pytest.mark.skipif(not _ALL, reason="make releases runs it")
DEPLOYERS = [
    "visionops_local",
    pytest.param("visionops_container", marks=_more),
    pytest.param("visionops_kubernetes", marks=_more),
]


@pytest.fixture
def life(request, zenml_home, tmp_path, bundles, red_cell) -> Iterator[Life]:
    from zenml.client import Client

    flavor: str = request.param
    with ExitStack() as stack:
        if flavor in MACHINE:
            if flavor == "visionops_container":
                require_image()
            machine: dict[str, object] = {"folder": str(tmp_path / "serving")}
            if flavor == "visionops_container" and (image := os.environ.get("VISIONOPS_SERVING_IMAGE")):
                machine["container"] = {"image": image}
            deployer = component(flavor, MACHINE[flavor], machine)
        else:
            address = stack.enter_context(s3_server())
            uri = stack.enter_context(s3_bucket(address, "models"))
            _, url = stack.enter_context(live_cluster(tmp_path, (command, environment)))
            settings = {
                "namespace": NAMESPACE,
                "image": "registry/visionops-serving:1",
                "bundle_store": uri,
                "bundle_store_endpoint": address,
                "bundle_store_secret": "s3",
                "service_url": url,
                "replicas": 2,
                "poll_seconds": 0.05,
            }
            deployer = component(flavor, CLUSTER[flavor], settings)
        yield Life(deployer, bundles[0], red_cell)
        for service in deployer.find_model_server():
            deployer.delete_model_server(service.uuid, force=True)
    Client().delete_stack_component(f"{flavor}-contract", "model_deployer")


def strange(folder: Path) -> Path:
    """Return a bundle whose answers never agree with the champion's."""
    return make_bundle(folder / "strange", class_names=("a", "b", "c")).folder


def failing(folder: Path) -> Path:
    """Return a bundle whose boxes are NaN on bright images, unlike the smoke image."""
    made = make_bundle(folder / "failing", gain=1.7)
    model = onnx.load(made.folder / "model.onnx")
    (last,) = [node for node in model.graph.node if node.name == "" and node.output[0] == "output0"]
    limit = numpy_helper.from_array(np.array(0.99, np.float32), "limit")
    model.graph.initializer.append(limit)
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        helper.make_node("Sub", ["limit", "brightest"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Mul", [last.input[0], "root"], ["moved"]),
    ]
    last.input[0] = "moved"
    place = list(model.graph.node).index(last)
    for node in reversed(nodes):
        model.graph.node.insert(place, node)
    onnx.save(model, made.folder / "model.onnx")
    return ModelBundle.create(made.folder, made.card).folder


def slow(folder: Path) -> Path:
    """Return a bundle whose input has a hundred times the pixels."""
    return make_bundle(folder / "slow", size=1280).folder


@pytest.mark.parametrize("life", DEPLOYERS, indirect=True)
def test_a_release_holds_its_promises(life: Life, bundles, tmp_path):
    check_good(life, bundles[1], "2", "canary")
    disagreeing = serving()
    check_bad(life, strange(tmp_path), "3", disagreeing, "agreed with the champion by", 30 * LEAST)
    corrupt = make_bundle(tmp_path / "corrupt", gain=1.3).folder
    (corrupt / "model.onnx").write_bytes(b"not what the card says")
    with life.traffic(), pytest.raises(BundleError, match="corrupt"):
        life.serve(serving(), Candidate(corrupt, "4"))
    if hasattr(life.deployer, "stored"):  # a new pod starts without counts, by design
        check_restart(life, bundles[0], "5", serving())


@_more
@pytest.mark.parametrize("life", DEPLOYERS, indirect=True)
def test_a_shadow_answers_nobody_and_is_promoted(life: Life, bundles):
    check_good(life, bundles[1], "2", "shadow")


@_more
@pytest.mark.parametrize("life", DEPLOYERS, indirect=True)
def test_a_candidate_that_fails_or_is_slow_goes_back(life: Life, tmp_path):
    check_bad(life, failing(tmp_path), "2", serving(min_agreement=None), "failed on 100.0%", 0)
    late = serving(min_agreement=None, max_latency_ratio=2)
    check_bad(life, slow(tmp_path), "3", late, "where the champion took", 30 * LEAST)


@_more
@pytest.mark.parametrize("life", DEPLOYERS[:1], indirect=True)
def test_a_candidate_that_does_not_answer_leaves_the_champion(life: Life, bundles, tmp_path, red_cell):
    life.serve(serving())
    with life.traffic(), pytest.raises(DeploymentError, match="version 2: refused, version 1 answers all") as refused:
        life.deployer.deploy_bundle(
            bundles[0],
            name="cells",
            version="1",
            alias="champion",
            serving=serving(),
            smoke_images=[red_cell],
            candidate=Candidate(failing(tmp_path), "2"),
        )
    assert "\n" not in str(refused.value)
    assert life.reports().reports[0].candidate is None or life.reports().reports[0].problem
