"""Test the link from a run in a tracker to its pipeline."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stacks import tracking

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


class Linked:
    def __init__(self) -> None:
        self.links: dict[str, str] = {}

    def link(self, name: str, url: str) -> None:
        self.links[name] = url


@pytest.mark.parametrize(
    ("url", "links"), [("https://zenml/runs/7", {"zenml": "https://zenml/runs/7"}), (None, {})], ids=["server", "none"]
)
def test_with_a_server_a_run_links_to_its_pipeline(monkeypatch, url, links):
    import zenml
    import zenml.utils.dashboard_utils

    run = Linked()
    adapter = SimpleNamespace(open_run=lambda: run)
    monkeypatch.setattr(tracking, "_active_adapter", lambda: ("toy", adapter))
    monkeypatch.setattr(zenml, "get_step_context", lambda: SimpleNamespace(pipeline_run="run 7"))
    monkeypatch.setattr(zenml.utils.dashboard_utils, "get_run_url", {"run 7": url}.get)
    assert tracking.active_run() is run
    assert run.links == links


@pytest.mark.parametrize("flavor", sorted(tracking.ADAPTERS))
def test_outside_of_a_tracked_step_is_one_line(flavor):
    from visionops.errors import StackError

    tracking.ADAPTERS[flavor].set_environment()
    with pytest.raises(StackError, match="no run is open; set experiment_tracker=True on the step"):
        tracking.ADAPTERS[flavor].open_run()
