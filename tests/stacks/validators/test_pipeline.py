"""Test the pipeline `validation` on ZenML's local stack, with our validator and with a custom one."""

from __future__ import annotations

from typing import Any

import pytest
from zenml.client import Client

from stacks.apply import apply
from tests.conftest import ROOT
from tests.stacks.validators.test_active import activate, stack_with
from visionops.config import load_config
from visionops.data.validation.report import ValidationReport
from visionops.errors import StackError, ValidationStopped

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # ZenML and SQLAlchemy warn of their own code

SMALL = ("data.source.images=12", "data.source.size=64", "validation.min_instances=0", "validation.min_images=1")


@pytest.fixture(scope="module")
def client(module_zenml_home) -> Client:
    apply("local")
    return Client()


def run(*overrides: str) -> Any:
    from pipelines.validation import validation

    config = load_config(ROOT / "configs" / "sample.yaml", [*SMALL, *overrides])
    return validation(config=config, source_fingerprint="unchanged")


def cached(run: Any, step: str) -> bool:
    return str(Client().get_pipeline_run(run.id).steps[step].status) == "cached"


def report(run: Any, step: str = "validate_data") -> ValidationReport:
    found: ValidationReport = Client().get_pipeline_run(run.id).steps[step].outputs["validation"][0].load()
    return found


def test_ours_and_ones_own_in_one_part_and_in_shards(client):
    activate(client)
    first = run()
    assert not cached(first, "validate_data")
    assert report(first).errors == ()
    stack_with(client, "images", None, "visionops_images")
    assert cached(run(), "validate_data"), "the same checks by another component"

    stack_with(client, "dark", "tests.stacks.validators.dark.DarkFlavor", "dark", darkest=0)
    passed = run()
    assert not cached(passed, "validate_data"), "another validator"
    assert cached(passed, "ingest")
    assert report(passed) == report(first)
    assert cached(run(), "validate_data")

    brightness = sorted(report(first).facts["brightness"].to_pylist())
    darkest = (brightness[1] + brightness[2]) / 2
    stack_with(client, "refusing", None, "dark", darkest=darkest)
    for shards in ("1", "2"):
        with pytest.raises(ValidationStopped, match=r"mean grey value \d+ of 255 is below .*; light the part"):
            run(f"validation.shards={shards}")
    lenient = run("validation.shards=2", "validation.severities={own_check: warning}")
    assert report(lenient, "join_validation").counts["usable"] == len(brightness) - 2


def test_without_one_the_step_says_so(client):
    stack_with(client, "bare", None)
    with pytest.raises(StackError, match="'bare': missing data validator; run visionops"):
        run()
