"""What is printed when a run has ended."""

from __future__ import annotations

import pytest

from pipelines.summary import print_summary

INSIDE = "kubectl --namespace vision port-forward service/visionops-steel 8000"


@pytest.mark.parametrize(
    ("endpoint", "lines"),
    [
        ({"url": "http://127.0.0.1:8000"}, ["curl -F file=@part.jpg http://127.0.0.1:8000/predict"]),
        (
            {"url": "https://steel.example", "key_command": "cat 'my home/key'"},
            ["curl -H \"X-API-Key: $(cat 'my home/key')\" -F file=@part.jpg https://steel.example/predict"],
        ),
        (
            {"url": "http://visionops-steel.vision.svc:8000", "key_command": "print [key]", "tunnel": INSIDE},
            [f"{INSIDE} &", 'curl -H "X-API-Key: $(print [key])" -F file=@part.jpg http://127.0.0.1:8000/predict'],
        ),
    ],
)
def test_a_line_to_paste_asks_the_endpoint(capsys, endpoint, lines):
    named = {"name": "steel", "version": "3", "alias": "champion"}
    print_summary({"seconds": 1, "run": "r", "stack": "s", "endpoint": endpoint | named})
    assert capsys.readouterr().out.splitlines()[-len(lines) :] == lines
