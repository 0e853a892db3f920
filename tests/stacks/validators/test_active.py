"""Test that the active stack's data validator is found, replaced, reported if missing, and part of a cache key."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
from zenml.client import Client
from zenml.data_validators.base_data_validator import BaseDataValidator, BaseDataValidatorFlavor
from zenml.enums import StackComponentType

import stacks.apply as apply_module
from stacks.apply import apply
from stacks.session import open_session, placement
from stacks.spec import ComponentSpec, ComponentType, FlavorSpec, load_stack
from steps.context import (
    active_drift_validator,
    active_image_validator,
    cache_identity,
    validation_identity,
)
from tests.conftest import ROOT
from visionops.config import load_config
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

KIND = StackComponentType.DATA_VALIDATOR


class PlainFlavor(BaseDataValidatorFlavor):
    """ZenML's base class, which plays no role that steps need."""

    @property
    def name(self):
        return "plain"

    @property
    def implementation_class(self):
        return BaseDataValidator


@pytest.fixture
def client(zenml_home) -> Client:
    apply("local")
    return Client()


def activate(client: Client, name: str = "local") -> None:
    """Activate a stack as in a new process, because ZenML caches the stack that it has read."""
    from zenml.stack import stack

    stack._STACK_CACHE.clear()
    client.activate_stack(name)


def stack_with(client: Client, name: str, source: str | None, flavor: str = "", **settings: Any) -> None:
    """Create and activate a stack that differs from `local` in its data validator."""
    components = {kind: found[0].id for kind, found in client.get_stack("local").components.items()}
    del components[KIND]
    if source and not client.list_flavors(name=flavor, type=KIND.value).items:
        client.create_flavor(source, KIND)
    if flavor:
        components[KIND] = client.create_stack_component(name, flavor, KIND, settings).id
    client.create_stack(name, components)
    activate(client, name)


def start(name: str) -> None:
    """Prepare a run of the pipeline ``name``."""
    config = load_config(ROOT / "configs" / "sample.yaml")
    inputs = {"source_fingerprint": "x"} if name == "validation" else {"is_requested": False, "tells": False}
    placement(getattr(importlib.import_module(f"pipelines.{name}"), name), config=config, **inputs)


def test_the_validator_of_the_stack_plays_both_roles(client):
    activate(client)
    assert active_image_validator() is active_drift_validator() is client.active_stack.data_validator
    assert client.active_stack.data_validator.flavor == "visionops_evidently"
    start("validation")
    start("monitoring")
    assert validation_identity() == cache_identity()


def test_zenmls_own_way_finds_it(client):
    from stacks.validators.images import ImagesValidator

    activate(client)
    assert ImagesValidator.get_active_data_validator() is client.active_stack.data_validator


@pytest.mark.parametrize("pipeline", ["validation", "monitoring"])
def test_a_stack_without_one_is_one_line_with_the_fix_before_anything_runs(client, pipeline):
    stack_with(client, "bare", None)
    with pytest.raises(StackError) as caught:
        start(pipeline)
    assert str(caught.value) == (
        "stack 'bare': missing data validator; run visionops stack apply local, then zenml stack update bare -dv local"
    )
    assert validation_identity() not in {cache_identity(), ""}, "no result of another stack is taken for its own"


def test_one_that_plays_no_role_is_named(client):
    stack_with(client, "plain", f"{__name__}.PlainFlavor", "plain")
    with pytest.raises(StackError, match="'plain' of flavor plain validates no images; use one of flavor visionops_e"):
        start("validation")
    with pytest.raises(StackError, match="'plain' of flavor plain looks for no drift; use one of"):
        active_drift_validator()


def test_the_cache_key_of_a_validation_has_who_validates(client):
    activate(client)
    ours = validation_identity()
    stack_with(client, "images", None, "visionops_images")
    assert validation_identity() == ours, "the same checks"
    seen = {ours}
    for name, settings in (("dark", {}), ("darker", {"darkest": 10})):
        stack_with(client, name, "tests.stacks.validators.dark.DarkFlavor", "dark", **settings)
        seen.add(validation_identity())
    assert len(seen) == 3
    assert cache_identity() == ours, "no other step runs again"


def test_a_flavor_that_is_gone_is_one_line(client, tmp_path, monkeypatch):
    module = tmp_path / "gone_checks.py"
    module.write_text(
        "from tests.stacks.validators.dark import DarkFlavor\nclass GoneFlavor(DarkFlavor): name = 'gone'"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    stack_with(client, "gone", "gone_checks.GoneFlavor", "gone")
    assert active_image_validator().flavor == "gone"
    module.unlink()
    monkeypatch.delitem(sys.modules, "gone_checks")
    activate(client, "gone")
    says = pytest.raises(StackError, match=r"'gone': Couldn't import custom flavor gone: .*make sure")
    with says as caught, open_session("case", "gone"):
        pass
    assert "\n" not in str(caught.value)


def test_a_validator_is_exchanged_by_the_stack_file_and_back(client, monkeypatch):
    activate(client)
    before = load_stack("local")
    dark = ComponentSpec(name="dark", flavor="dark", configuration={"darkest": 30})
    source = FlavorSpec(type=ComponentType.DATA_VALIDATOR, source="tests.stacks.validators.dark.DarkFlavor")
    other = before.model_copy(
        update={
            "flavors": (*before.flavors, source),
            "components": before.components | {ComponentType.DATA_VALIDATOR: dark},
        }
    )
    monkeypatch.setattr(apply_module, "load_stack", lambda _: other)
    assert [change.kind for change in apply("local")] == ["flavor", "data_validator", "stack"]
    assert apply("local") == []
    activate(client)
    assert client.active_stack.data_validator.config.darkest == 30
    start("validation")
    monkeypatch.undo()
    assert [change.kind for change in apply("local")] == ["stack"]
    activate(client)
    assert client.active_stack.data_validator.flavor == "visionops_evidently"


def test_the_workspace_is_a_setting_of_the_stack(client, zenml_home, monkeypatch):
    activate(client)
    assert client.active_stack.data_validator.workspace == str(zenml_home / "evidently")
    monkeypatch.setenv("VISIONOPS_EVIDENTLY", "http://127.0.0.1:8765")
    assert [str(change) for change in apply("local")] == ["update data_validator local (workspace)"]
    activate(client)
    assert client.active_stack.data_validator.workspace == "http://127.0.0.1:8765"
