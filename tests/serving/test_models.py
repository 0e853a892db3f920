"""Several models in one process: who answers, and what happens when one changes."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.bundles import make_label_bundle
from tests.serving.conftest import TestClient
from tests.serving.test_app import error_of, reload, send


def test_models_answer_by_name(client: TestClient, tmp_path: Path, red_cell: bytes):
    colours = make_label_bundle(tmp_path / "colours").folder
    assert reload(client, colours, name="colours").status_code == 200
    assert "detections" in send(client, red_cell).json()
    assert "detections" in send(client, red_cell, model="cells").json()
    assert "classification" in send(client, red_cell, model="colours").json()
    assert client.get("/model").json()["task"] == "detection"
    assert client.get("/model", params={"model": "colours"}).json()["task"] == "classification"
    assert [model["name"] for model in client.get("/models").json()] == ["cells", "colours"]
    for response in (send(client, red_cell, model="x"), client.get("/model?model=x")):
        assert (response.status_code, error_of(response)) == (404, "unknown_model")
        assert "there are: cells, colours" in response.json()["error"]["message"]
