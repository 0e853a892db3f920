"""A real Prometheus reads a real Pushgateway with login and TLS, as in the compose file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.helpers.programs import MONITORING, prometheus, query, secured_pushgateway, until
from visionops.monitoring.curves import TrainingCurves


@pytest.mark.parametrize(("password", "up"), [("", "1"), ("wrong", "0")])
def test_prometheus_reads_the_curves_with_the_right_login_alone(tmp_path: Path, password: str, up: str):
    content = yaml.safe_load((MONITORING / "prometheus" / "secured.yml").read_text())
    content |= {"global": {"scrape_interval": "1s"}, "rule_files": []}
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump(content))
    with secured_pushgateway(tmp_path / "run") as gateway:
        shutil.copytree(tmp_path / "run" / "access" / "client", tmp_path / "access")
        if password:
            (tmp_path / "access" / "password").write_text(password)
        (tmp_path / "pushgateway").mkdir()
        target = {"targets": [gateway.url.removeprefix("https://")]}
        (tmp_path / "pushgateway" / "local.yml").write_text(yaml.safe_dump([target]))
        curves = TrainingCurves(gateway, "faces", "training", epochs=2)
        curves.epoch({"train_loss": 0.5}, 1)
        assert curves.close() == ""
        with prometheus(tmp_path, config) as port:
            (sample,) = until(lambda: query(port, 'up{job="visionops_pushgateway"}'))
            assert sample["value"][1] == up
            shown = query(port, 'visionops_training_loss{use_case="faces", loss="train_loss"}')
            assert [one["value"][1] for one in shown] == (["0.5"] if up == "1" else [])
