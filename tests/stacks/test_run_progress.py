"""Test what a client prints of a run whose steps are pods."""

from __future__ import annotations

import re

import pytest
from zenml.enums import ExecutionStatus

from stacks.deployers.api import Namespace
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.run_progress import StepLines, StepState, _log_commands, _waiting, new_run_name, printed_steps
from tests.helpers.admission import quota, webhook
from tests.helpers.cluster import NAMESPACE, refusal, running_cluster

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code


def test_each_change_is_said_once():
    lines = StepLines()
    running, waiting = StepState(ExecutionStatus.RUNNING, 3), StepState(ExecutionStatus.INITIALIZING, waits="no node")
    assert lines.update({"ingest": StepState(ExecutionStatus.CACHED), "train": waiting}) == [
        "ingest: cached from an earlier run",
        "train: waits; no node",
    ]
    assert lines.update({"ingest": StepState(ExecutionStatus.CACHED), "train": waiting}) == []
    assert lines.update({"train": running}) == ["train: runs"]
    assert lines.update({"train": StepState(ExecutionStatus.RUNNING, 60)}) == []
    assert lines.update({"train": StepState(ExecutionStatus.RUNNING, 605)}) == ["train: runs for 10 min"]
    assert lines.update({"train": StepState(ExecutionStatus.RUNNING, 900)}) == []
    assert lines.update({"train": StepState(ExecutionStatus.FAILED, 61.4)}) == ["train: failed after 61 s"]


def test_a_pod_that_no_node_takes_says_so(tmp_path):
    full = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    with running_cluster(tmp_path) as cluster:
        config = KubernetesDeployerConfig.model_construct(image="", bundle_store="", namespace=NAMESPACE)
        for name, run, phase in (("train", "r1", "Pending"), ("evaluate", "r1", "Running"), ("train", "r2", "Pending")):
            manifest = {
                "metadata": {
                    "name": f"{run}-{name}",
                    "labels": {"run_id": run},
                    "annotations": {"zenml.io/step-name": f"{name}_{run}"},
                },
                "status": {"phase": phase, "conditions": [full]},
            }
            cluster.pods[f"{run}-{name}"] = {"owner": None, "mark": "", "ready": False, "manifest": manifest}
        namespace = Namespace(config)
        own = namespace.select("Pod", {"run_id": "r1"})
        waiting, logs = _waiting(namespace, "r1", own), _log_commands(namespace, own)
    assert list(waiting) == ["train_r1"]
    assert logs["evaluate_r1"] == f"kubectl -n {NAMESPACE} logs --follow r1-evaluate"
    running = StepState(ExecutionStatus.RUNNING, 3, log=logs["evaluate_r1"])
    assert StepLines().update({"evaluate": running}) == [f"evaluate: runs; log: {logs['evaluate_r1']}"]
    assert "does not fit on any node (0/1 nodes are available: 1 Insufficient cpu.); add nodes" in waiting["train_r1"]


def test_a_step_whose_pod_is_denied_says_so(tmp_path):
    with running_cluster(tmp_path) as cluster:
        config = KubernetesDeployerConfig.model_construct(image="", bundle_store="", namespace=NAMESPACE)
        namespace = Namespace(config)
        cluster.admission = [quota("pods", only="train"), webhook("pods", "no label owner", only="evaluate")]
        for name in ("train", "evaluate", "ingest"):
            metadata = {
                "name": f"r1-{name}",
                "labels": {"run_id": "r1"},
                "annotations": {"zenml.io/step-name": name},
            }
            namespace.ensure({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})
        waiting = _waiting(namespace, "r1", [])
        cluster.faults.append(
            refusal(
                403, 'events is forbidden: User "ci" cannot list resource "events" in API group ""', plural="events"
            )
        )
        unseen = _waiting(namespace, "r1", [])
    assert set(waiting) == {"train", "evaluate"}
    assert re.fullmatch(
        r"exceeded quota: team, requested: requests.cpu=1, .*; raise the ResourceQuota.*", waiting["train"]
    )
    assert re.fullmatch(r"admission webhook .* denied the request: no label owner; change .*", waiting["evaluate"])
    assert unseen["train"].startswith(
        "it has no pod, for an unknown reason (events in namespace vision: lacks the right"
    )


def test_the_steps_of_a_run_are_printed_while_it_runs(zenml_home):
    from zenml.client import Client

    from stacks.apply import apply
    from tests.stacks.failing import fails, works

    apply("local")
    Client().activate_stack("local")
    shown: list[str] = []
    name = new_run_name("works")
    with printed_steps(name, shown.append, poll_seconds=0.05):
        works.with_options(run_name=name)()
    assert shown[-1].startswith("work: done in ")
    name = new_run_name("fails")
    with pytest.raises(RuntimeError, match="failure in step"), printed_steps(name, shown.append, poll_seconds=60):
        fails.with_options(run_name=name)("ours")
    assert shown[-1].startswith("fail: failed after ")
