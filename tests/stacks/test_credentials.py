"""Test that secrets and service connectors of a stack are created, changed and undone, and never printed."""

from __future__ import annotations

from pathlib import Path

import pytest

import stacks.apply as apply_module
from stacks.apply import apply, main
from stacks.spec import ComponentSpec, ComponentType, ConnectorSpec, StackSpec, load_stack, read_stack
from tests.stacks.test_spec import CLUSTER, MINIMAL
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

TOKEN, OTHER = "first-sesame", "second-sesame"


@pytest.fixture
def client(zenml_home: Path):
    """Return a client without stacks, components and secrets except ZenML's own."""
    from zenml.client import Client

    return Client()


def use(monkeypatch: pytest.MonkeyPatch, token: str = TOKEN, *, fails: bool = False, linked: bool = True) -> StackSpec:
    """Extend `local` by a secret that the tracker refers to, and a connector to a cluster for an orchestrator."""
    spec = load_stack("local")
    tracker = {"tracking_uri": "http://127.0.0.1:1", "tracking_token": "{{tracking.token}}"}
    orchestrator = ComponentSpec(
        name="cluster", flavor="kubernetes", configuration={"local": True}, connector="cluster" if linked else ""
    )
    components = {
        ComponentType.ORCHESTRATOR: orchestrator,
        ComponentType.ARTIFACT_STORE: spec.components[ComponentType.ARTIFACT_STORE],
        ComponentType.EXPERIMENT_TRACKER: ComponentSpec(name="tracking", flavor="mlflow", configuration=tracker),
    }
    given = {"token": token, "server": "https://127.0.0.1:1", "cluster_name": "x", "insecure": True}
    spec = StackSpec.model_validate(
        {
            "name": "secretive",
            "components": components,
            "secrets": {"tracking": {"token": token} | ({"extra": "new"} if token == OTHER else {"old": "1"})},
            "connectors": {"cluster": {"type": "kubernetes", "auth_method": "token", "configuration": given}},
        }
    )
    monkeypatch.setattr(apply_module, "load_stack", lambda _: spec)
    if fails:

        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError("no more stacks")

        monkeypatch.setattr("zenml.client.Client.create_stack", refuse)
        monkeypatch.setattr("zenml.client.Client.update_stack_component", refuse)
    return spec


def held(client) -> tuple[dict[str, str], dict[str, str]]:
    connector = client.get_service_connector("cluster", expand_secrets=True)
    return client.get_secret("tracking").secret_values, connector.configuration.plain


def test_they_are_made_before_what_uses_them_and_a_second_call_changes_nothing(client, monkeypatch, capsys):
    use(monkeypatch)
    assert main(["secretive", "--dry-run"]) == 0
    assert client.list_secrets().items == client.list_service_connectors().items == []
    assert main(["secretive"]) == 0
    said = capsys.readouterr().out
    assert "would create secret tracking (old, token)\nwould create connector cluster (type kubernetes)\n" in said
    assert "\ncreate secret tracking (old, token)\ncreate connector cluster (type kubernetes)\ncreate orch" in said
    assert TOKEN not in said
    assert apply("secretive") == []
    secret, connector = held(client)
    assert secret == {"token": TOKEN, "old": "1"}
    assert (connector["token"], connector["insecure"]) == (TOKEN, "true")
    stack = client.get_stack("secretive")
    (orchestrator,) = (items[0] for kind, items in stack.components.items() if kind.value == "orchestrator")
    assert orchestrator.connector.name == "cluster"
    client.activate_stack("secretive")
    assert client.active_stack.experiment_tracker.config.tracking_token == TOKEN


def test_a_change_is_said_by_the_names_of_its_keys(client, monkeypatch):
    use(monkeypatch)
    apply("secretive")
    use(monkeypatch, OTHER)
    assert [str(change) for change in apply("secretive")] == [
        "update secret tracking (extra, old, token)",
        "update connector cluster (token)",
    ]
    secret, connector = held(client)
    assert (secret, connector["token"]) == ({"token": OTHER, "extra": "new"}, OTHER)
    assert apply("secretive") == []
    use(monkeypatch, OTHER, linked=False)
    assert [str(change) for change in apply("secretive")] == ["update orchestrator cluster (connector)"]
    assert apply("secretive") == []
    use(monkeypatch, OTHER)
    assert [str(change) for change in apply("secretive")] == ["update orchestrator cluster (connector)"]


def test_a_failure_takes_them_back(client, monkeypatch):
    with monkeypatch.context() as patch:
        use(patch, fails=True)
        with pytest.raises(StackError, match="nothing was changed"):
            apply("secretive")
    assert client.list_secrets().items == client.list_service_connectors().items == []
    assert client.list_stack_components(name="cluster").items == []
    use(monkeypatch)
    apply("secretive")
    before = held(client)
    with monkeypatch.context() as patch:
        use(patch, OTHER, fails=True, linked=False)
        with pytest.raises(StackError, match="no more stacks; nothing was changed"):
            apply("secretive")
    assert held(client) == before


def test_an_error_of_zenml_quotes_no_value(client, monkeypatch):
    def refuse(_: object, name: str, values: dict[str, str]) -> None:
        raise ValueError(f"cannot keep {name} {values}")

    use(monkeypatch)
    monkeypatch.setattr("zenml.client.Client.create_secret", refuse)
    with pytest.raises(StackError, match=r"cannot keep tracking \{'token': '\*\*\*'") as caught:
        apply("secretive")
    assert caught.value.__cause__ is None or TOKEN not in str(caught.value.__cause__)


def test_a_setting_that_zenml_refuses_is_said_without_the_value(client, monkeypatch):
    spec = use(monkeypatch)
    wrong = ComponentSpec(name="x", flavor="mlflow", configuration={"tracking_insecure_tls": "{{tracking.token}}"})
    components = spec.components | {ComponentType.EXPERIMENT_TRACKER: wrong}
    monkeypatch.setattr(apply_module, "load_stack", lambda _: spec.model_copy(update={"components": components}))
    with pytest.raises(StackError, match=r"'x' of flavor 'mlflow': .*tracking_insecure_tls.*\*\*\*") as caught:
        apply("secretive")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"type": "aws"}, "type aws is unknown, or its libraries are not installed; choose one of docker, kubernetes"),
        ({"auth_method": "magic"}, "auth_method magic is unknown for type kubernetes; choose one of password, token"),
    ],
)
def test_a_connector_that_cannot_be_made_is_refused_before_anything_changes(client, monkeypatch, changes, says):
    spec = use(monkeypatch)
    wrong = ConnectorSpec(**{"type": "kubernetes", "auth_method": "token"} | changes)
    monkeypatch.setattr(
        apply_module, "load_stack", lambda _: spec.model_copy(update={"connectors": {"cluster": wrong}})
    )
    with pytest.raises(StackError, match=says):
        apply("secretive")
    assert client.list_secrets().items == []


def test_the_file_says_what_it_holds_and_no_more(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(MINIMAL + "secrets: {s3: {key: '${KEY}', port: 1}}\n")
    spec = read_stack(path, {"KEY": TOKEN})
    assert spec.secrets["s3"]["key"].get_secret_value() == TOKEN
    assert TOKEN not in repr(spec)
    path.write_text(MINIMAL.replace("flavor: local}", "flavor: local, connector: y}", 1))
    with pytest.raises(StackError, match=r"components\.orchestrator\.connector: 'y' is missing from connectors"):
        read_stack(path, {})
    text = MINIMAL.replace("flavor: local}", "flavor: local, configuration: {a: '{{s3.kye}}'}}", 1)
    path.write_text(f"{text}secrets: {{s3: {{key: a}}}}\n")
    with pytest.raises(StackError, match=r"orchestrator: \{\{s3\.kye\}\}: secret s3 has no key kye"):
        read_stack(path, {})


def test_the_token_of_mlflow_lies_in_a_secret():
    spec = load_stack("kubernetes", CLUSTER | {"MLFLOW_TRACKING_TOKEN": TOKEN})
    assert TOKEN not in str({kind: c.configuration for kind, c in spec.components.items()})
    assert spec.secrets["visionops-mlflow"]["tracking_token"].get_secret_value() == TOKEN
