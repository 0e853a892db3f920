"""A real server kept on the champion of a real registry, whoever moves the alias and whatever is restarted."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
import requests

from deploy.following.__main__ import main
from deploy.following.follower import Follower
from deploy.following.options import FollowOptions
from tests.helpers.programs import free_port, started
from tests.helpers.tracking import add_version, make_tracking
from visionops.errors import ConfigError, DeploymentError, RegistryError
from visionops.registry import ModelRegistry

KEY = "k3y"


@contextlib.contextmanager
def server(folder: Path):
    port = free_port()
    command = [sys.executable, "-m", "deploy.serving", "--name", "cells", "--port", str(port)]
    with started(folder, port, *command, ready="/health", env={"VISIONOPS_ADMIN_KEY": KEY}):
        yield f"http://127.0.0.1:{port}"


def test_the_server_follows_the_alias(tmp_path, capsys):
    registry = ModelRegistry(make_tracking(tmp_path))
    bundles = tmp_path / "served"
    with server(tmp_path) as url:
        options = {"VISIONOPS_NAME": "cells", "VISIONOPS_REGISTRY": registry.tracking_uri, "VISIONOPS_SERVER": url}
        options |= {"VISIONOPS_BUNDLES": str(bundles), "VISIONOPS_ADMIN_KEY": KEY}
        follower = Follower(FollowOptions.parse([], options))

        def served() -> tuple[str, str]:
            answer = requests.get(f"{url}/model", timeout=10).json()
            return answer["version"], answer["alias"]

        assert follower.follow() is None  # nothing has the alias yet
        assert main(["--check"], options) == 0
        first = add_version(registry, "cells", tmp_path, 1.0)
        registry.promote(first)
        assert main(["--check"], options) == 2
        assert follower.follow().version == "1"
        assert served() == ("1", "champion")
        assert follower.follow() is None
        assert main(["--check"], options) == 0

        second = add_version(registry, "cells", tmp_path, 1.5)
        assert follower.follow() is None  # a challenger
        registry.promote(second)
        (bundles / "draft-interrupted").mkdir()

        def interrupt(seconds: float) -> None:
            assert seconds == 10
            raise KeyboardInterrupt

        capsys.readouterr()
        assert main([], options, interrupt) == 0
        assert capsys.readouterr().out == f"{url} serves cells version 2 (champion)\n"
        assert served() == ("2", "champion")
        assert [path.name for path in bundles.iterdir()] == [second.digest]

        registry.rollback("cells")
        assert follower.follow().version == "1"
        requests.post(f"{url}/unload", json={"name": "cells"}, headers={"X-API-Key": KEY}, timeout=10)
        with pytest.raises(DeploymentError, match=r"/reload: 401 .*"):
            Follower(FollowOptions.parse([], options | {"VISIONOPS_ADMIN_KEY": "wrong"})).follow()
        assert follower.follow().version == "1"  # as after a restart of the server

    with pytest.raises(DeploymentError, match="does not answer"):
        follower.follow()
    said = []

    def twice(_: float) -> None:
        said.append(capsys.readouterr().out)
        if len(said) == 2:
            raise KeyboardInterrupt

    assert main([], options, twice) == 0
    assert "again each 10 s: http://127.0.0.1" in said[0]
    assert said[1] == ""  # once


def test_a_registry_that_is_gone_and_a_missing_name(tmp_path, capsys):
    options = FollowOptions(name="cells", registry=f"http://127.0.0.1:{free_port()}", bundles=tmp_path)
    with pytest.raises(RegistryError, match="does not answer"):
        Follower(options).follow()
    with pytest.raises(ConfigError, match="--name: is missing"):
        FollowOptions.parse([], {"VISIONOPS_ADMIN_KEY": KEY})
    assert main([], {"VISIONOPS_ADMIN_KEY": KEY}) == 2
    assert KEY not in capsys.readouterr().err
