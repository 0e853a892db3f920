"""The annotator of a stack: ours or Label Studio, exchanged by the active stack alone; its commands; the doctor."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch.cli import app
from stacks.annotators.active import active_tool
from stacks.apply import apply
from stacks.doctor import annotators
from stacks.doctor.annotators import check_label_studio, check_review_annotator
from stacks.doctor.findings import State
from stacks.steps import StepSpec
from tests.annotators.made import CASES, add
from tests.conftest import ROOT
from tests.helpers.review import ANNA, NOW, STEEL
from visionops.errors import StackError
from visionops.review.annotation.tool import QueueTool
from visionops.review.errors import Invalid, NotFound, Unavailable
from visionops.review.label_studio.tool import LabelStudio
from visionops.review.service import Answer, Review
from visionops.review.states import Verdict
from visionops.review_store.opening import open_review

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code

KIND = "annotator"
URL = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def home(module_zenml_home) -> Iterator[Any]:
    """Both stacks, and items in the review of this ZenML's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONOPS_LABEL_STUDIO", URL)
        patch.setenv("VISIONOPS_LABEL_STUDIO_TOKEN", "f" * 40)
        apply("local")
        apply("label-studio")
        assert apply("label-studio") == []
        yield module_zenml_home


@pytest.fixture
def opened(home) -> Iterator[Review]:
    with open_review() as review:
        for case in CASES:
            review.put_use_case(case)
        yield review


def activate(name: str) -> None:
    from zenml.client import Client
    from zenml.stack import stack

    stack._STACK_CACHE.clear()
    Client().activate_stack(name)


def components(name: str) -> dict[str, Any]:
    from zenml.client import Client

    return {kind.value: found[0] for kind, found in Client().get_stack(name).components.items()}


def annotator() -> Any:
    from zenml.stack import StackComponent

    from stacks.annotators.review import ReviewAnnotator

    made = StackComponent.from_model(components("local")[KIND])
    assert isinstance(made, ReviewAnnotator)
    return made


@pytest.mark.usefixtures("home")
def test_the_active_stack_alone_says_which_tool_it_is():
    activate("local")
    assert isinstance(active_tool(), QueueTool)
    activate("label-studio")
    tool = active_tool()
    assert isinstance(tool, LabelStudio)
    assert (tool.title, tool.api._token) == (f"Label Studio {URL}", "f" * 40)
    assert "f" * 40 not in str(components("label-studio")[KIND].configuration)
    activate("local")


@pytest.mark.usefixtures("home")
def test_a_stack_without_a_tool_says_how_to_get_one():
    from zenml.client import Client
    from zenml.enums import StackComponentType

    client, kind = Client(), StackComponentType.ANNOTATOR
    ids = {StackComponentType(name): found.id for name, found in components("local").items() if name != KIND}
    client.create_stack("bare", ids)
    activate("bare")
    with pytest.raises(
        StackError, match=r"missing annotator; run visionops stack apply local, then zenml stack update bare -an"
    ):
        active_tool()
    client.create_flavor("tests.annotators.strange.StrangeFlavor", kind)
    made = client.create_stack_component("strange", "strange", kind, {})
    client.create_stack("strange", {**ids, kind: made.id})
    activate("strange")
    with pytest.raises(StackError, match=r"flavor strange has no annotation_tool\(\); use visionops_review"):
        active_tool()
    activate("local")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"instance_url": "label-studio"}, Invalid, "is not an http:// or https:// address"),
        ({"instance_url": URL}, Invalid, "the token is missing"),
        (
            {"instance_url": URL, "authentication_secret": "nowhere"},
            StackError,
            "ZenML's secret nowhere is missing; zenml secret create nowhere --api_key=",
        ),
    ],
)
def test_settings_of_label_studio_that_cannot_be_used_are_one_line(settings, error, message):
    from stacks.annotators.active import label_studio

    with pytest.raises(error, match=message) as said:
        label_studio("x", {"port": 0, **settings})
    assert "\n" not in str(said.value)


@pytest.mark.usefixtures("home")
def test_a_port_is_part_of_the_address_where_there_is_one():
    from stacks.annotators.active import label_studio

    settings = {"instance_url": "http://host/", "port": 8093, "api_key": "t"}
    assert label_studio("x", settings).title == "Label Studio http://host:8093"


def test_commands_push_and_pull(opened: Review):
    add(opened, "steel", 100)
    activate("local")
    pushed = CliRunner().invoke(app, ["annotate", "push", "steel"])
    assert (pushed.exit_code, pushed.output.splitlines()[0]) == (0, "annotator the review queue")
    assert "0 pushed, " in pushed.output
    pulled = CliRunner().invoke(app, ["annotate", "pull", "steel"])
    assert pulled.output.splitlines()[1] == "decided   0 confirmed, 0 corrected, 0 rejected"
    activate("label-studio")
    failed = CliRunner().invoke(app, ["annotate", "pull", "steel"])
    assert failed.exit_code == 2
    assert f"error: Label Studio {URL}: does not answer (ConnectionError); start it" in failed.output
    activate("local")
    assert CliRunner().invoke(app, ["annotate", "push", "nowhere"]).exit_code == 2


def test_use_cases_are_zenmls_datasets(opened: Review):
    ours = annotator()
    first, second = add(opened, "faces", 1), add(opened, "faces", 2)
    opened.claim(first.id, ANNA, key="c", now=NOW)
    opened.decide(first.id, Answer(Verdict.CONFIRM), ANNA, key="d", now=NOW)
    assert set(ours.get_dataset_names()) == {case.name for case in CASES}
    assert ours.get_dataset(dataset_name="steel") == STEEL
    assert ours.add_dataset(use_case=STEEL) == STEEL
    assert ours.get_dataset_stats("faces") == (1, 1)
    assert [item.id for item in ours.get_unlabeled_data(dataset_name="faces")] == [second.id]
    ((item, decision),) = ours.get_labeled_data(dataset_name="faces")
    assert (item.id, decision.reviewer) == (first.id, "anna")
    assert (ours.get_url(), ours.get_url_for_dataset("steel")) == ("", "")
    with pytest.raises(NotFound):
        ours.get_dataset_stats("nowhere")
    for call, message in (
        (lambda: ours.delete_dataset(dataset_name="steel"), "decisions are never removed; steel stays"),
        (ours.add_dataset, "add_dataset needs use_case"),
        (ours.get_dataset, "dataset_name is missing"),
        (ours.launch, "has no pages; set its url"),
    ):
        with pytest.raises(StackError, match=message):
            call()


@pytest.mark.usefixtures("opened")
def test_the_doctor_looks_at_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tests.helpers.doctor import examined, well

    assert "the review database answers" in well(check_review_annotator(examined("annotator", "visionops_review")))
    far = list(check_review_annotator(examined("annotator", "visionops_review", "kubernetes")))
    assert [finding.state for finding in far] == [State.OK, State.WARNING]
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", str(tmp_path / "none.db"))
    assert "the first review creates it" in well(check_review_annotator(examined("annotator", "visionops_review")))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", "postgresql://127.0.0.1:9/x")
    with pytest.raises(Unavailable):
        list(check_review_annotator(examined("annotator", "visionops_review")))
    far = list(check_review_annotator(examined("annotator", "visionops_review", "kubernetes")))
    assert [finding.state for finding in far] == [State.WARNING]
    assert "whether steps reach it cannot be checked from here" in far[0].observed
    given = examined("annotator", "visionops_review", "kubernetes")
    fed = given.stack.model_copy(update={"steps": {"default": StepSpec(image="x:1")}})
    lacks = list(check_review_annotator(dataclasses.replace(given, stack=fed)))[-1]
    assert (lacks.state, lacks.fix) == (State.WARNING, "set it to postgresql://…")
    assert lacks.observed == "step read_reviewed reads the review in a pod, but VISIONOPS_REVIEW_DATABASE is not set"
    given = examined(
        "annotator", "label_studio", instance_url=URL, port=0, authentication_secret={"api_key": "secret-token"}
    )
    with pytest.raises(Unavailable, match="does not answer") as said:
        list(check_label_studio(given))
    assert "secret-token" not in str(said.value)


def test_the_doctor_says_that_pipelines_need_an_sdk(monkeypatch: pytest.MonkeyPatch):
    from tests.helpers.doctor import examined, trouble

    given = examined("annotator", "label_studio")
    monkeypatch.setattr(annotators, "find_spec", lambda name: None)
    assert trouble(annotators.check_label_studio_sdk(given)) == (
        "warning: label-studio-sdk is not installed: `visionops annotate` works, but pipelines cannot run on this "
        "stack; run pipelines on stack local, or pip install label-studio-sdk"
    )
    monkeypatch.setattr(annotators, "find_spec", lambda name: name)
    assert list(annotators.check_label_studio_sdk(given)) == []


def test_loading_a_stack_brings_no_review():
    code = "import sys, stacks.annotators.review, stacks.annotators.flavors; print(*sorted(n for n in sys.modules if "
    code += "n.startswith('visionops.review')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.split() == []
