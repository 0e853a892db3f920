"""Commands on two stacks that differ in their annotator alone, against a real Label Studio."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from launch.cli import app
from tests.annotators.made import CASES, add
from tests.annotators.server import EMAIL, Server
from visionops.review.label_studio.tool import LabelStudio
from visionops.review.states import Verdict
from visionops.review_store.opening import open_review

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code


def run(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_stack_alone_exchanges_the_tool(
    server: Server, tool: LabelStudio, module_zenml_home, monkeypatch: pytest.MonkeyPatch
):
    from zenml.client import Client

    from stacks.apply import apply
    from stacks.doctor.annotators import check_label_studio
    from tests.helpers.doctor import examined, well

    monkeypatch.setenv("VISIONOPS_LABEL_STUDIO", server.url)
    monkeypatch.setenv("VISIONOPS_LABEL_STUDIO_TOKEN", server.personal)
    apply("local")
    apply("label-studio")
    with open_review() as review:
        for case in CASES:
            review.put_use_case(case)
        item = add(review, "casting", 1)
    Client().activate_stack("local")
    assert run("annotate", "push", "casting").splitlines()[1] == "items     0 pushed, 1 already there"
    Client().activate_stack("label-studio")
    assert run("annotate", "push", "casting").splitlines() == [
        f"annotator Label Studio {server.url}",
        "items     1 pushed, 0 already there",
    ]
    (project,) = server.call("GET", "/api/projects/")["results"]
    (task,) = server.call("GET", "/api/tasks/", params={"project": project["id"], "fields": "all"})["tasks"]
    body = {"result": task["predictions"][0]["result"]}
    server.call("POST", f"/api/tasks/{task['id']}/annotations/", json=body)
    assert "1 confirmed, 0 corrected, 0 rejected" in run("annotate", "pull", "casting")
    assert "0 confirmed, 0 corrected, 0 rejected" in run("annotate", "pull", "casting")
    with open_review() as review:
        (decision,) = review.store.decisions(item.id)
    assert (decision.reviewer, decision.verdict) == (EMAIL, Verdict.CONFIRM)
    given = examined("annotator", "label_studio", instance_url=server.url, port=0, api_key=server.legacy)
    assert well(check_label_studio(given)) == f"Label Studio {server.url}: token accepted, account {EMAIL}"
