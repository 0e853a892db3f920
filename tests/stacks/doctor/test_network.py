"""Test the check of network policies between steps and the API server."""

from __future__ import annotations

from typing import Any

import pytest

from stacks.deployers.api import Namespace
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.doctor.cluster import check_kubernetes_orchestrator
from stacks.doctor.findings import CheckResult
from tests.helpers.doctor import examined, trouble, well

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

DENY = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": [{"port": 53}]}]}
STEPS = {"matchExpressions": [{"key": "project_id", "operator": "Exists"}]}


def policies(*specs: dict[str, Any]) -> None:
    """Put network policies into the namespace."""
    namespace = Namespace(KubernetesDeployerConfig(namespace="vision", image="x", bundle_store="s3://x"))
    for number, spec in enumerate(specs):
        manifest = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"policy-{number}"},
            "spec": spec,
        }
        assert namespace.ensure(manifest)


def look() -> list[CheckResult]:
    own = {"kubernetes_namespace": "vision", "service_account_name": "default"}
    return list(check_kubernetes_orchestrator(examined("orchestrator", "kubernetes", **own)))


def to(*ports: Any, **more: Any) -> dict[str, Any]:
    return {"podSelector": STEPS, "policyTypes": ["Egress"], "egress": [{"ports": list(ports), **more}]}


def test_without_policies_there_is_nothing_to_compare(cluster):
    assert "API server" not in well(look())


def test_the_ports_of_the_chart_are_those_of_the_api_server(cluster):
    policies(DENY, to({"port": 443}, {"port": 6443, "protocol": "TCP"}))
    assert "policies let steps reach the API server at port 6443" in well(look())
    cluster.api_ports = (16443,)
    assert trouble(look()) == (
        "warning: network policies of namespace vision: block steps from port 16443, on which the API server "
        "listens (172.18.0.2); helm upgrade … --reuse-values --set 'networkPolicies.apiServerPorts={16443}'"
    )


@pytest.mark.parametrize(
    ("rule", "is_open"),
    [
        (to({"port": 6000, "endPort": 7000}), True),
        (to({"port": 6443, "protocol": "UDP"}), False),
        (to(), True),
        (to({"port": 6443}, to=[{"podSelector": {}}]), False),
        (to({"port": 6443}, to=[{"ipBlock": {"cidr": "172.18.0.0/16"}}]), True),
        (to({"port": 6443}, to=[{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["172.18.0.0/24"]}}]), False),
        (to({"port": 6443}) | {"podSelector": {"matchLabels": {"app": "mlflow"}}}, False),
    ],
)
def test_a_rule_opens_what_kubernetes_lets_it_open(cluster, rule, is_open):
    policies(DENY, rule)
    found = look()
    assert "reach the API server" in well(found) if is_open else "block steps from port 6443" in trouble(found)


def test_a_missing_right_is_reported(cluster):
    cluster.denied = {"list endpointslices"}
    policies(DENY)
    assert "not checked, lacks the right to list EndpointSlice" in well(look())
