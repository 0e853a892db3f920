"""Test the doctor's checks of data validators."""

from __future__ import annotations

import pytest
from zenml.client import Client
from zenml.enums import StackComponentType

import stacks.doctor.diagnosis as diagnosis_module
import stacks.doctor.validators as validators_module
from stacks.apply import apply
from stacks.doctor.diagnosis import diagnose
from stacks.doctor.findings import Examined, State
from stacks.doctor.validators import check_evidently, check_images, check_own_validator, lacks_validator
from stacks.spec import ComponentType, FlavorSpec
from tests.helpers.doctor import examined, trouble, well
from tests.helpers.web import answering
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


def own(flavor: str, source: str) -> Examined:
    found = examined("data_validator", flavor)
    spec = FlavorSpec(type=ComponentType.DATA_VALIDATOR, source=source)
    return Examined(found.component, found.stack.model_copy(update={"flavors": (spec,)}))


def test_evidently_is_its_version_and_its_folder(tmp_path, monkeypatch):
    folder = tmp_path / "evidently"
    seen = well(check_evidently(examined("data_validator", "visionops_evidently", workspace=str(folder))))
    assert seen.startswith("Evidently 0.7.")
    assert f"{folder}: writable" in seen
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))
    assert str(tmp_path / "home" / "evidently") in well(check_evidently(examined("data_validator", "x")))
    pods = examined("data_validator", "visionops_evidently", "kubernetes", workspace=str(folder))
    assert "snapshots are lost with their pods; set VISIONOPS_EVIDENTLY to the URL" in trouble(check_evidently(pods))
    (tmp_path / "file").write_text("")
    bad = examined("data_validator", "visionops_evidently", workspace=str(tmp_path / "file" / "below"))
    assert trouble(check_evidently(bad)).startswith("broken: ")


def test_a_server_of_evidently_answers_or_is_named(nobody):
    with answering({"/api/version": {"application": "Evidently UI", "version": "0.7.21"}}) as server:
        here = examined("data_validator", "visionops_evidently", "kubernetes", workspace=f"{server.url}/")
        assert well(check_evidently(here)).endswith(f"{server.url}/: Evidently's server answers")
        server.answers["/api/version"] = 401
        assert "refuses the key (401); set EVIDENTLY_SECRET" in trouble(check_evidently(here))
        server.answers["/api/version"] = {"version": "3"}
        assert "answers, but is not Evidently (200); start it with" in trouble(check_evidently(here))
    away = examined("data_validator", "visionops_evidently", workspace=nobody)
    assert "Evidently does not answer (connection refused); start it" in trouble(check_evidently(away))


def test_evidently_of_another_series_or_none_is_broken(tmp_path, monkeypatch):
    here = examined("data_validator", "visionops_evidently", workspace=str(tmp_path))
    monkeypatch.setattr(validators_module, "version", lambda _: "0.8.1")
    assert "broken: Evidently 0.8.1: another series than 0.7.x; pip" in trouble(check_evidently(here))
    monkeypatch.setattr(diagnosis_module, "find_spec", lambda _: None)
    (look,) = diagnosis_module._looks(ComponentType.DATA_VALIDATOR, here.component, here.stack, [])
    assert trouble(look()) == "broken: evidently: not installed; pip install 'visionops[drift]'"


def test_ours_without_evidently_needs_nothing():
    assert "validates images and labels" in well(check_images(examined("data_validator", "visionops_images")))


@pytest.mark.usefixtures("zenml_home")
def test_one_of_ones_own_is_imported_and_its_roles_are_named():
    seen = well(check_own_validator(own("dark", "tests.stacks.validators.dark.DarkFlavor")))
    assert seen == "DarkValidator validates images and labels; looks for drift"
    plain = own("plain", "tests.stacks.validators.test_active.PlainFlavor")
    assert trouble(check_own_validator(plain)) == (
        "broken: BaseDataValidator validates no images; use flavor visionops_evidently, or a subclass of our validators"
    )
    for gone in (own("gone", "no_such_module.GoneFlavor"), examined("data_validator", "nobody")):
        with pytest.raises(StackError, match=r"cannot be loaded .*; install its package, or put its module") as said:
            list(check_own_validator(gone))
        assert "\n" not in str(said.value)


def test_a_stack_without_one_is_broken_and_says_the_fix(zenml_home):
    apply("local")
    client = Client()
    components = {kind: found[0].id for kind, found in client.get_stack("local").components.items()}
    del components[StackComponentType.DATA_VALIDATOR]
    client.create_stack("bare", components)
    (row,) = [row for row in diagnose("bare").rows if row.what == "data validator"]
    assert row.state is State.BROKEN
    assert trouble(row.findings).endswith("visionops stack apply local, then zenml stack update bare -dv local")
    assert "to stacks/mine.yaml" in lacks_validator("mine", has_file=True).fix
