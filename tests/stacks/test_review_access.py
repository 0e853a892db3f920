"""Test that only the steps that open the review get its address, and its password by a Secret's name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stacks.review_access import DATABASE, IMAGES, REVIEW_STEPS
from stacks.run_options import run_options
from stacks.spec import ComponentType, StackSpec, load_stack
from stacks.steps import StepSpec
from tests.stacks.test_spec import CLUSTER
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML warns of its own code

PLACES = {DATABASE: "postgresql://visionops@db/review", IMAGES: "s3://vision/review"}
REVIEW = CLUSTER | PLACES | {"VISIONOPS_REVIEW_SECRET": "review"}
NAMES = {name: name for name in ("ingest", "prepare", "train", "release_model", *REVIEW_STEPS)}
STACKS = ("kubernetes", "incluster", "seldon", "airflow")


def containers(spec: StackSpec, **more: Any) -> dict[str, dict[str, Any]]:
    """Return the variables and sources of each step's pod, for every orchestrator."""
    found = {}
    for name, options in run_options(spec, NAMES, **more)["steps"].items():
        given = options["settings"]["orchestrator"]
        if spec.components[ComponentType.ORCHESTRATOR].flavor == "airflow":
            (container,) = given["operator_args"]["pod_template_dict"]["spec"]["containers"]
            found[name] = {"env": container["env"], "from": container["envFrom"]}
        else:
            found[name] = {"env": given["pod_settings"]["env"], "from": given["pod_settings"]["env_from"]}
    return found


@pytest.mark.parametrize("stack", STACKS)
def test_steps_that_open_the_review_get_it_and_no_others(stack: str):
    variables = REVIEW | {"VISIONOPS_AIRFLOW_DAGS": "s3://vision/dags", "PGPASSWORD": "kept back"}
    found = containers(load_stack(stack, variables), reads_review=True)
    assert "kept back" not in json.dumps(found)
    with_review = {name for name, given in found.items() if {"secretRef": {"name": "review"}} in given["from"]}
    assert with_review == set(REVIEW_STEPS)
    for name, given in found.items():
        assert {"secretRef": {"name": "s3"}} in given["from"], name
        named = {entry["name"]: entry["value"] for entry in given["env"]}
        assert {k: v for k, v in named.items() if "REVIEW" in k} == (PLACES if name in with_review else {}), name


@pytest.mark.parametrize("stack", STACKS)
def test_without_a_review_all_steps_are_given_what_they_were(stack: str):
    found = containers(load_stack(stack, CLUSTER | {"VISIONOPS_AIRFLOW_DAGS": "s3://vision/dags"}))
    assert [given["from"] for given in found.values()] == [[{"secretRef": {"name": "s3"}}]] * len(NAMES)
    assert not [e for given in found.values() for e in given["env"] if "REVIEW" in e["name"]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({DATABASE: ""}, "VISIONOPS_REVIEW_DATABASE is not set; set it to postgresql://"),
        (
            {DATABASE: "/srv/review/review.db"},
            "is /srv/review/review.db, which is on this machine; set it to postgresql://",
        ),
        (
            {IMAGES: "/srv/review/images"},
            "VISIONOPS_REVIEW_IMAGES is /srv/review/images, which is on this machine; set it to s3://",
        ),
        ({DATABASE: "postgresql://me:hidden@db/x"}, "holds a password; remove it and set PGPASSWORD"),
    ],
)
def test_a_review_that_no_pod_reaches_is_refused_before_anything_runs(changes: dict[str, str], words: str):
    given = REVIEW | {"VISIONOPS_REVIEW_SECRET": ""} | changes
    spec = load_stack("kubernetes", given)
    with pytest.raises(StackError, match="stack 'kubernetes': ") as caught:
        run_options(spec, NAMES, reads_review=True)
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert run_options(spec, NAMES)


def test_an_address_may_come_from_a_source_of_the_step():
    spec = load_stack("kubernetes", CLUSTER)
    own = StepSpec.model_validate({"env_from": [{"configMapRef": {"name": "review"}}]})
    spec = spec.model_copy(update={"steps": spec.steps | dict.fromkeys(REVIEW_STEPS, own)})
    assert run_options(spec, NAMES, reads_review=True)
