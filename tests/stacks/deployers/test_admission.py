"""Test that objects and pods denied at admission give one line with the fix, and leave nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacks.deployers.admission import explain_denial
from tests.helpers.admission import level, policy, quota, silent_webhook, webhook
from tests.helpers.cluster import Cluster, running_cluster
from tests.helpers.s3 import s3_bucket, s3_server
from tests.stacks.deployers.test_rollout import deploy, make, refused

MANY_LINES = (
    "\n\nresource Deployment/vision/visionops-cells was blocked due to the following policies\n\nowners: absent\n"
)
CHANGE = "change the setting named here, or the cluster's policy"
HOOK = r'admission webhook "policy.plant.example" denied the request: '
DENIED = {
    "gatekeeper": (
        webhook("deployments", "[owners] no label owner"),
        rf"Deployment visionops-cells in namespace vision: {HOOK}\[owners\] no label owner; {CHANGE};",
    ),
    "kyverno": (
        webhook("deployments", MANY_LINES, status=400),
        rf"{HOOK}resource Deployment/vision/visionops-cells was blocked .* owners: absent; {CHANGE};",
    ),
    "policy": (policy("deployments", "failed expression: has(x)"), rf"denied request: failed .*; {CHANGE};"),
    "silent": (silent_webhook("deployments"), r"refused; contact the cluster's administrator about this webhook;"),
    "objects": (
        quota("deployments"),
        r": exceeded quota: team, requested: count/deployments.apps=1, .*; raise the ResourceQuota, or lower resources",
    ),
    "a service": (webhook("services", "no owner"), rf"Service visionops-cells in namespace vision: {HOOK}no owner;"),
    "pods": (webhook("pods", "server has no probe"), rf"1: {HOOK}server has no probe; {CHANGE};"),
    "pods of a quota": (
        quota("pods"),
        r"1: exceeded quota: team, .*; raise the ResourceQuota, or lower resources or replicas;",
    ),
    "pods of a level": (
        level('seccompProfile (container "server" must set it)'),
        r'pods "visionops-cells-\d+" is forbidden: violates PodSecurity .*, or the namespace\'s Pod Security level;',
    ),
}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with s3_server() as address, s3_bucket(address, "models") as uri:
        yield f"{uri}/bundles"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path) as cluster:
        yield cluster


@pytest.mark.parametrize("what", DENIED)
def test_what_is_not_admitted_is_named_and_removed(store, cluster, bundles, what):
    denies, why = DENIED[what]
    cluster.admission = [denies]
    message = refused(make(store), bundles[0])
    assert message.startswith("cells version 1: ")
    assert re.search(why, message), message
    assert message.endswith("nothing served before, so all objects were removed")
    assert (cluster.names(), cluster.pods) == (set(), {})


@pytest.mark.parametrize("plural", ["deployments", "pods"])
def test_what_served_before_still_serves(store, cluster, bundles, plural):
    endpoint = make(store)
    deploy(endpoint, bundles[0])
    pods, spec = set(cluster.pods), cluster.find("deployments")["spec"]
    cluster.least_ready = 1000

    def only_new(kind, manifest):
        """Deny new objects only, like a rule that is newer than the first deployment."""
        is_new = kind == "pods" or manifest.get("spec") != spec
        return webhook(plural, "no label owner")(kind, manifest) if is_new else None

    cluster.admission = [only_new]
    message = refused(endpoint, bundles[1], "2")
    assert "denied the request: no label owner; change" in message
    assert message.endswith("; version 1 is restored")
    assert (set(cluster.pods), cluster.find("deployments")["spec"]) == (pods, spec)
    assert (cluster.least_ready, endpoint.find().version) == (1, "1")


def test_a_rule_that_denies_what_was_before_is_said_too(store, cluster, bundles):
    first = make(store)
    deploy(first, bundles[0])
    cluster.fates["2"] = "crash"
    seen = []

    def later(kind, manifest):
        """Deny while the new pods crash, so that the old manifest is no longer admitted."""
        if kind == "deployments":
            seen.append(manifest)
        return webhook("deployments", "no label owner")(kind, manifest) if len(seen) > 1 else None

    cluster.admission = [later]
    message = refused(first, bundles[1], "2")
    assert re.search(
        r"exits again and again .*; and the previous state could not be restored \(.*denied the request", message
    )


@pytest.mark.parametrize(
    ("said", "is_final", "fix"),
    [
        ('pods "a" is forbidden: failed quota: team: must specify limits.cpu for: server', True, "set it in resources"),
        ('pods "a" is forbidden: maximum memory usage per Pod is 1Gi, but limit is 2Gi', True, "the namespace's rule"),
        ('pods "a" is forbidden: User "ci" cannot get resource "pods/log" in API group ""', False, ""),
        ("ReplicaSet visionops-cells-1 has timed out progressing.", False, ""),
    ],
)
def test_only_denials_are_explained(said, is_final, fix):
    found = explain_denial(said)
    assert found[0] is is_final
    assert found[1].endswith(fix)
