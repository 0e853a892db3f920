"""Test that a stack is applied once, completely or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from zenml.enums import StackComponentType

import stacks.apply as apply_module
from stacks.active import active_stack
from stacks.apply import Action, apply, ensure, main
from stacks.registry import active_registry_uri
from stacks.same_deployer import deployer_settings, require_same_deployer
from stacks.spec import ComponentSpec, ComponentType, StackSpec, load_stack
from stacks.tracking import prepare_tracker, tracker_settings
from steps.context import active_alerter, active_pushgateway
from tests.conftest import ROOT
from tests.helpers.zenml_homes import zenml_server
from tests.stacks.test_spec import CLUSTER
from visionops.errors import StackError
from visionops.monitoring.gateway import Pushgateway

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


@pytest.fixture
def client(zenml_home: Path):
    """Return the client of the test's own ZenML, without our stack."""
    from zenml.client import Client

    return Client()


def use(monkeypatch: pytest.MonkeyPatch, **changes: object) -> StackSpec:
    """Replace the stack `local` with one of other components."""
    spec = load_stack("local")
    spec = spec.model_copy(update={"components": spec.components | changes.pop("components", {}), **changes})
    monkeypatch.setattr(apply_module, "load_stack", lambda _name: spec)
    return spec


def activate_anew(client) -> None:
    """Activate a stack as in a new process, because ZenML caches the stack that it has read."""
    from zenml.stack import stack

    stack._STACK_CACHE.clear()
    client.activate_stack("local")


def names(client) -> set[str]:
    return {stack.name for stack in client.list_stacks().items}


def test_a_dry_run_changes_nothing(client):
    changes = apply("local", dry_run=True)
    assert [change.kind for change in changes] == [
        "flavor",
        "flavor",
        "flavor",
        "flavor",
        "flavor",
        "flavor",
        "secret",
        "orchestrator",
        "artifact_store",
        "experiment_tracker",
        "model_registry",
        "model_deployer",
        "alerter",
        "data_validator",
        "annotator",
        "stack",
    ]
    assert {change.action for change in changes} == {Action.CREATE}
    assert names(client) == {"default"}


def test_a_stack_that_is_not_applied_yet_names_the_command(client):
    with (
        pytest.raises(StackError, match=r"'onehost': not in ZenML yet; run visionops stack apply onehost$"),
        active_stack(client, "onehost", keep=False),
    ):
        pass


def test_the_second_call_changes_nothing(client, zenml_home):
    assert len(apply("local")) == 16
    assert apply("local") == []
    stack = client.get_stack("local")
    assert {kind.value for kind in stack.components} == {
        "orchestrator",
        "artifact_store",
        "experiment_tracker",
        "model_registry",
        "model_deployer",
        "alerter",
        "data_validator",
        "annotator",
    }
    assert client.active_stack_model.name == "default"
    client.activate_stack("local")
    active = client.active_stack
    assert active.artifact_store.path == str(zenml_home / "artifacts")
    assert active.experiment_tracker.get_tracking_uri() == f"sqlite:///{zenml_home}/mlflow/mlflow.db"
    assert hasattr(active.model_deployer, "deploy_bundle")
    assert (active_alerter().config.url, active_pushgateway()) == ("", Pushgateway())


def test_a_stack_whose_registry_hung_on_its_tracker_gets_one_at_the_same_address(client, monkeypatch):
    of_before = ComponentSpec(name="local", flavor="mlflow")
    use(monkeypatch, components={ComponentType.MODEL_REGISTRY: of_before})
    apply("local")
    activate_anew(client)
    uri = active_registry_uri()
    monkeypatch.undo()
    created, updated = map(str, apply("local"))
    assert created == "create model_registry local-models (flavor visionops_mlflow)"
    assert updated.startswith(
        "update stack local (alerter, annotator, artifact_store, data_validator, experiment_tracker, model_d"
    )
    activate_anew(client)
    assert client.active_stack.model_registry.flavor == "visionops_mlflow"
    assert active_registry_uri() == uri
    assert client.active_stack.model_registry.list_models() == []


def test_the_registry_stands_without_an_mlflow_tracker(client, zenml_home):
    apply("local")
    components = {kind: found[0].id for kind, found in client.get_stack("local").components.items()}
    del components[StackComponentType.EXPERIMENT_TRACKER]
    client.create_stack("untracked", components)
    client.activate_stack("untracked")
    client.active_stack.validate()
    assert active_registry_uri() == f"sqlite:///{zenml_home}/mlflow/mlflow.db"
    with pytest.raises(
        StackError, match="'untracked': missing experiment tracker; add one of flavor mlflow, trackio, w"
    ):
        tracker_settings("case")


def test_a_tracker_without_an_adapter_is_named_with_those_that_have_one(client):
    apply("local")
    components = {kind: found[0].id for kind, found in client.get_stack("local").components.items()}
    comet = client.create_stack_component("comet", "comet", StackComponentType.EXPERIMENT_TRACKER, {"api_key": "x"})
    client.create_stack("comet", components | {StackComponentType.EXPERIMENT_TRACKER: comet.id})
    client.activate_stack("comet")
    with pytest.raises(StackError, match=r"'comet': no adapter .* tracker 'comet'; use one of mlflow, trackio, wandb$"):
        prepare_tracker("case")


def test_neither_registry_nor_mlflow_is_one_line(client):
    apply("local")
    components = {kind: found[0].id for kind, found in client.get_stack("local").components.items()}
    for kind in (StackComponentType.EXPERIMENT_TRACKER, StackComponentType.MODEL_REGISTRY):
        del components[kind]
    client.create_stack("bare", components)
    client.activate_stack("bare")
    with pytest.raises(StackError, match="'bare': missing model registry; add one of flavor visionops_mlflow"):
        active_registry_uri()


def test_a_stack_from_before_there_were_alerts_gets_an_alerter_and_keeps_the_rest(client, monkeypatch):
    now = load_stack("local")
    before = {kind: spec for kind, spec in now.components.items() if kind is not ComponentType.ALERTER}
    flavors = tuple(flavor for flavor in now.flavors if flavor.type is not ComponentType.ALERTER)
    monkeypatch.setattr(
        apply_module, "load_stack", lambda _: now.model_copy(update={"flavors": flavors, "components": before})
    )
    apply("local")
    activate_anew(client)
    assert (active_alerter(), active_pushgateway()) == (None, Pushgateway())
    kept = {kind: [c.id for c in found] for kind, found in client.get_stack("local").components.items()}
    monkeypatch.undo()
    monkeypatch.setenv("VISIONOPS_ALERTMANAGER", "http://127.0.0.1:9093")
    monkeypatch.setenv("VISIONOPS_PUSHGATEWAY", "http://127.0.0.1:9091")
    assert [(str(change.action), change.kind) for change in apply("local")] == [
        ("create", "flavor"),
        ("create", "alerter"),
        ("update", "stack"),
    ]
    components = client.get_stack("local").components
    assert kept.items() <= {kind: [c.id for c in found] for kind, found in components.items()}.items()
    activate_anew(client)
    assert active_alerter().config.url == "http://127.0.0.1:9093"
    assert active_pushgateway() == Pushgateway("http://127.0.0.1:9091")
    monkeypatch.undo()
    assert [str(change) for change in apply("local")] == ["update alerter local (pushgateway_url, url)"]
    assert apply("local") == []


def test_the_login_of_the_pushgateway_is_a_secret_and_never_half(client, monkeypatch):
    monkeypatch.setenv("VISIONOPS_PUSHGATEWAY", "https://gateway:9091")
    monkeypatch.setenv("VISIONOPS_PUSHGATEWAY_USERNAME", "visionops")
    with pytest.raises(StackError, match="password: missing, but the username is set; set VISIONOPS_PUSHGATEWAY_PASS"):
        apply("local")
    assert names(client) == {"default"}
    monkeypatch.setenv("VISIONOPS_PUSHGATEWAY_PASSWORD", "a password of this test")
    apply("local")
    activate_anew(client)
    gateway = active_pushgateway()
    assert (gateway.username, gateway.password) == ("visionops", "a password of this test")
    kept = client.active_stack_model.components[StackComponentType.ALERTER][0].configuration
    assert kept["pushgateway_password"] == "{{pushgateway-local.password}}"
    assert "a password of this test" not in str(kept)
    client.delete_secret("pushgateway-local")
    with pytest.raises(StackError, match=r"pushgateway-local does not exist.*set VISIONOPS_PUSHGATEWAY_USERNAME"):
        active_pushgateway()
    monkeypatch.setenv("VISIONOPS_PUSHGATEWAY", "https://me:mine@gateway:9091")
    with pytest.raises(StackError, match="pushgateway_url: contains a login; set pushgateway_username") as caught:
        apply("local")
    assert "mine" not in str(caught.value)


def test_a_changed_setting_is_updated_and_a_removed_one_goes(client, monkeypatch, tmp_path):
    apply("local")
    deployer = {"folder": str(tmp_path), "host": "::1"}
    components = {
        ComponentType.MODEL_DEPLOYER: ComponentSpec(name="local", flavor="visionops_local", configuration=deployer)
    }
    use(monkeypatch, components=components)
    assert [str(change) for change in apply("local")] == ["update model_deployer local (folder, host)"]
    assert apply("local") == []
    monkeypatch.undo()
    assert [change.kind for change in apply("local")] == ["model_deployer"]
    assert apply("local") == []


def test_a_component_less_and_a_stack_changes(client, monkeypatch):
    apply("local")
    spec = load_stack("local")
    fewer = {k: v for k, v in spec.components.items() if k is not ComponentType.MODEL_REGISTRY}
    monkeypatch.setattr(apply_module, "load_stack", lambda _name: spec.model_copy(update={"components": fewer}))
    assert [change.kind for change in apply("local")] == ["stack"]
    assert "model_registry" not in {kind.value for kind in client.get_stack("local").components}
    assert apply("local") == []


def test_an_outdated_flavor_is_updated(client):
    from zenml.models import FlavorUpdate

    apply("local")
    flavor = client.list_flavors(name="visionops_local").items[0]
    client.zen_store.update_flavor(flavor.id, FlavorUpdate(config_schema={"properties": {}}))
    assert [str(change) for change in apply("local")] == [
        "update flavor visionops_local (stacks.deployers.local.LocalModelDeployerFlavor)"
    ]
    assert apply("local") == []


def test_a_failure_takes_back_what_was_changed(client, monkeypatch):
    def refuse(*_args, **_more):
        raise RuntimeError("the store\nsays no")

    monkeypatch.setattr(client, "create_stack", refuse)
    with pytest.raises(StackError, match=r"create stack local .*: the store says no; nothing was changed"):
        apply("local")
    assert client.list_flavors(name="startswith:visionops_").total == 0
    assert client.list_stack_components(name="local").total == 0


def test_a_failure_takes_back_updates(client, monkeypatch, tmp_path):
    apply("local")
    deployer = ComponentSpec(name="local", flavor="visionops_local", configuration={"folder": str(tmp_path)})
    use(
        monkeypatch,
        components={
            ComponentType.MODEL_DEPLOYER: deployer,
            ComponentType.MODEL_REGISTRY: ComponentSpec(name="other", flavor="mlflow"),
        },
    )
    monkeypatch.setattr(apply_module, "_set_components", lambda *_: 1 / 0)
    with pytest.raises(StackError, match="nothing was changed"):
        apply("local")
    monkeypatch.undo()
    assert apply("local") == []


@pytest.mark.parametrize(
    ("component", "says"),
    [
        (ComponentSpec(name="local", flavor="nosuch"), "model_registry 'local' of flavor 'nosuch'"),
        (ComponentSpec(name="local", flavor="mlflow", configuration={"urll": 1}), "unknown setting urll"),
    ],
)
def test_a_bad_component_is_refused_before_anything_changes(client, monkeypatch, component, says):
    use(monkeypatch, components={ComponentType.MODEL_REGISTRY: component})
    with pytest.raises(StackError, match=says) as caught:
        apply("local")
    assert "\n" not in str(caught.value)
    assert client.list_stack_components(name="local").total == 0


def test_a_bad_flavor_is_refused(client, monkeypatch):
    spec = load_stack("local")
    flavor = spec.flavors[0].model_copy(update={"source": "stacks.nowhere.Flavor"})
    use(monkeypatch, flavors=(flavor,))
    with pytest.raises(StackError, match=r"flavor stacks.nowhere.Flavor: .*No module named"):
        apply("local")


def test_a_component_of_another_flavor_is_not_touched(client):
    from zenml.enums import StackComponentType

    client.create_stack_component("local", "mlflow", StackComponentType.MODEL_DEPLOYER, {})
    with pytest.raises(StackError, match="exists with flavor mlflow; remove it: zenml model-deployer delete local"):
        apply("local")
    assert names(client) == {"default"}


def test_command_line(client, capsys, monkeypatch):
    assert main(["--dry-run", "--activate"]) == 0
    assert "would create stack local" in capsys.readouterr().out
    assert main(["local", "--activate"]) == 0
    out = capsys.readouterr().out
    assert "create model_deployer local (flavor visionops_local)" in out
    assert out.endswith("check that it works: visionops stack doctor local\n")
    assert client.active_stack_model.name == "local"
    assert main([]) == 0
    assert "stack local: nothing to change" in capsys.readouterr().out
    assert main(["nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_stack_on_a_cluster_is_made_without_asking_the_cluster(client, monkeypatch):
    for name, value in CLUSTER.items():
        monkeypatch.setenv(name, value)
    apply("kubernetes")
    assert apply("kubernetes") == []
    from zenml.enums import StackComponentType
    from zenml.stack import StackComponent

    components = client.get_stack("kubernetes").components
    (deployer,) = components[StackComponentType.MODEL_DEPLOYER]
    config = StackComponent.from_model(deployer).config.settings
    assert (config.namespace, config.bundle_store, config.bundle_store_endpoint) == (
        "vision",
        "s3://vision/bundles",
        "",
    )
    client.delete_stack("kubernetes")


def test_a_run_brings_a_stack_of_this_machine_to_its_file(client, monkeypatch):
    ensure("local")
    monkeypatch.setenv("VISIONOPS_EVIDENTLY", "drift-history")
    ensure("local")
    assert apply("local") == []


@pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes a minute: make pipelines")
def test_a_run_changes_no_stack_that_a_server_shares(tmp_path, monkeypatch):
    folder = tmp_path / "client"
    with zenml_server(tmp_path) as address:
        monkeypatch.setenv("VISIONOPS_HOME", str(folder))
        monkeypatch.setenv("ZENML_CONFIG_PATH", str(folder / "zenml"))
        monkeypatch.setenv("ZENML_STORE_URL", address)

        def call(program: str, evidently: str = "") -> subprocess.CompletedProcess[str]:
            lines = [
                "from stacks.apply import apply, ensure",
                "from visionops.errors import StackError",
                f"try: print({program})",
                "except StackError as error: raise SystemExit(str(error))",
            ]
            command = [sys.executable, "-c", "\n".join(lines)]
            variables = os.environ | {"VISIONOPS_EVIDENTLY": evidently}
            return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)

        assert call("ensure('local')").returncode == 0  # created, since it is missing
        refused = call("ensure('local')", "theirs")
        assert refused.returncode == 1
        assert "stack 'local': the shared stack in ZenML's server differs" in refused.stderr
        assert "update data_validator local (workspace); restore the variables" in refused.stderr
        assert call("apply('local')").stdout.endswith("[]\n")
        assert call("apply('local')", "theirs").returncode == 0
        assert call("ensure('local')", "theirs").returncode == 0


def test_a_run_releases_only_through_the_deployer_that_it_began_with(client):
    apply("local")
    activate_anew(client)
    at_start = deployer_settings()
    require_same_deployer(at_start)
    require_same_deployer({})
    kind = StackComponentType.MODEL_DEPLOYER
    client.update_stack_component("local", kind, configuration={"folder": "elsewhere"})
    with pytest.raises(StackError, match=r"model deployer 'local': changed after this run started, so nothing"):
        require_same_deployer(at_start)
