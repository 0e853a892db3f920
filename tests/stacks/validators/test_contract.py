"""Test the contract of each data validator, including a custom one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stacks.validators.flavors import EvidentlyValidatorFlavor, ImagesValidatorFlavor
from tests.conftest import ROOT
from tests.helpers import images
from tests.helpers.images import dataset_of
from tests.monitoring.test_drift import records
from tests.stacks.validators.contract import POLICY, QUICK, check_validator, component
from tests.stacks.validators.dark import DarkFlavor
from visionops.data.cleaning import clean
from visionops.data.findings import Code, Severity
from visionops.data.validation.judging import validate
from visionops.data.validation.validator import validate_by
from visionops.errors import StackError, ValidationStopped
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.settings import DriftMethod

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML warns of its own code

FLAVORS = (ImagesValidatorFlavor, EvidentlyValidatorFlavor, DarkFlavor)
BY_EVIDENTLY = QUICK.model_copy(update={"method": DriftMethod.EVIDENTLY})


@pytest.mark.parametrize("flavor", FLAVORS)
def test_each_flavor_passes_the_contract(flavor, tmp_path):
    settings = {"workspace": str(tmp_path / "evidently")} if "workspace" in flavor().config_class.model_fields else {}
    check_validator(component(flavor(), **settings), tmp_path)


@pytest.mark.parametrize("flavor", FLAVORS[:2])
def test_ours_find_what_the_domain_finds(flavor, tmp_path):
    files = {name: make() for name, (_, make) in {**images.BROKEN, **images.PECULIAR}.items()}
    dataset = dataset_of(tmp_path, files, boxes=[(next(iter(files)), 0, (-5.0, 5.0, 20.0, 20.0))])
    found, expected = validate_by(component(flavor()), dataset, POLICY), validate(dataset, POLICY)
    assert found == expected
    assert found.card == expected.card
    assert component(flavor()).identity == ""


def test_ours_give_the_verdict_on_drift_that_the_domain_gives(tmp_path):
    tables = records(100), records(60, 1, brightness=0.2)
    expected = detect_drift(*tables, QUICK)
    alone = component(ImagesValidatorFlavor()).detect_drift(*tables, QUICK, "steel")
    beside = component(EvidentlyValidatorFlavor(), workspace=str(tmp_path)).detect_drift(*tables, QUICK, "steel")
    assert alone.report == expected
    assert beside.report.model_copy(update={"snapshot": None}) == expected
    assert beside.report.snapshot.workspace == str(tmp_path)


def test_evidentlys_own_tests_need_a_validator_that_has_them(tmp_path):
    tables = records(100), records(60, 1, brightness=0.2)
    found = component(EvidentlyValidatorFlavor(), workspace=str(tmp_path)).detect_drift(*tables, BY_EVIDENTLY, "x")
    assert found.report.settings.method is DriftMethod.EVIDENTLY
    with pytest.raises(
        StackError, match=r"visionops_images does not support monitoring\.drift\.method: evidently; set it"
    ):
        component(ImagesValidatorFlavor()).detect_drift(*tables, BY_EVIDENTLY, "x")


def test_a_check_of_ones_own_refuses_an_image_and_the_policy_may_leave_it_out(tmp_path):
    files = {"a.png": images.encode(images.Image.new("RGB", (40, 40), (5, 5, 5)), "PNG"), "b.jpg": images.jpeg(1)}
    dataset = dataset_of(tmp_path, files)
    report = validate_by(component(DarkFlavor(), darkest=30), dataset, POLICY)
    (finding,) = report.errors
    assert (finding.code, finding.severity, finding.images) == (Code.OWN_CHECK, Severity.ERROR, ("a.png",))
    with pytest.raises(ValidationStopped, match=r"^a\.png: mean grey value 5 of 255 is below 30; light the part$"):
        report.raise_if_stopped()
    assert "Refused by a custom check" in report.card
    lenient = POLICY.model_copy(update={"severities": {Code.OWN_CHECK: Severity.WARNING}})
    report = validate_by(component(DarkFlavor(), darkest=30), dataset, lenient)
    report.raise_if_stopped()
    assert clean(dataset, report).column("key") == ["b.jpg"]
    assert validate_by(component(DarkFlavor(), darkest=3), dataset, POLICY).errors == ()


def test_an_image_that_is_unusable_already_keeps_its_finding(tmp_path):
    dataset = dataset_of(tmp_path, {"cut.jpg": images.truncated_jpeg(), "b.jpg": images.jpeg(1)})
    report = validate_by(component(DarkFlavor(), darkest=255), dataset, POLICY)
    seen = [(f.code, f.where) for f in report.errors if f.images]
    assert seen == [(Code.TRUNCATED, "cut.jpg"), (Code.OWN_CHECK, "b.jpg")]


def test_the_identity_of_ones_own_follows_its_settings_and_its_code(tmp_path, monkeypatch):
    identity = component(DarkFlavor()).identity
    assert identity
    assert component(DarkFlavor()).identity == identity
    assert component(DarkFlavor(), workspace="http://elsewhere").identity == identity, "no image is judged by it"
    assert component(DarkFlavor(), darkest=21).identity != identity
    changed = tmp_path / "dark.py"
    changed.write_text("darkest = 1")
    monkeypatch.setattr("inspect.getsourcefile", lambda _: str(changed))
    assert component(DarkFlavor()).identity != identity


def test_evidently_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr("stacks.validators.evidently.find_spec", lambda _: None)
    with pytest.raises(StackError, match=r"evidently is not installed; pip install 'visionops\[drift\]'$"):
        component(EvidentlyValidatorFlavor()).detect_drift(records(9), records(9), QUICK, "x")


def test_who_loads_a_stack_imports_neither_images_nor_evidently():
    code = (
        "import sys, stacks.validators.evidently, stacks.validators.active; "
        "print(*{'evidently', 'cv2', 'pyarrow', 'visionops.monitoring.drift'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert done.stdout.split() == []
