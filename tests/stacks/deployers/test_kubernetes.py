"""Test which records belong to a deployer to a cluster, and what it writes into them."""

from types import SimpleNamespace

import pytest

from stacks.deployers.kubernetes import ClusterServiceConfig, KubernetesModelDeployer, KubernetesModelDeployerConfig
from stacks.deployers.manifests.settings import KubernetesDeployerConfig


def settings(**own) -> dict:
    return {"namespace": "vision", "image": "serving:2", "bundle_store": "s3://bundles"} | own


@pytest.mark.parametrize(
    ("recorded", "is_own"),
    [({}, True), ({"image": "serving:1"}, True), ({"namespace": "b"}, False), ({"kubernetes_context": "b"}, False)],
)
def test_whose_a_record_is_is_seen_without_writing_to_it(recorded, is_own):
    was = KubernetesDeployerConfig(**settings(**recorded)).model_dump(mode="json")
    service = SimpleNamespace(config=ClusterServiceConfig(name="cells", model_name="cells", cluster=dict(was)))
    deployer = SimpleNamespace(config=KubernetesModelDeployerConfig(**settings()))
    assert [KubernetesModelDeployer.owns(deployer, service) for _ in range(2)] == [is_own, is_own]
    assert service.config.cluster == was
    KubernetesModelDeployer.update_record(deployer, service)
    assert service.config.cluster == KubernetesDeployerConfig(**settings()).model_dump(mode="json")
