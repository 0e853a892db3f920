"""Test the checks of folders, disks and container engines."""

from pathlib import Path

import pytest

from stacks.doctor.findings import Examined
from stacks.doctor.machine import check_artifact_folder, check_container_deployer, check_folder, check_image_builder
from tests.helpers.disks import mounted
from tests.helpers.doctor import engine, examined, trouble, well

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


def container(tmp_path: Path, engine: str = "auto") -> Examined:
    settings = {"engine": engine, "image": "serving:1"}
    return examined("model_deployer", "visionops_container", folder=str(tmp_path), container=settings)


def test_what_is_wrong_with_container_engines_is_named(tmp_path, monkeypatch):
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    assert "neither podman nor docker is on the path; install one: apt" in trouble(
        check_container_deployer(container(tmp_path))
    )
    assert "docker and podman: not on the path; install one" in trouble(
        check_image_builder(examined("image_builder", "local"))
    )
    engine(path, "docker", "echo 'Cannot connect to the Docker daemon at unix:///x.' >&2; exit 1")
    assert "docker is on the path" not in trouble(check_container_deployer(container(tmp_path)))
    for check, component in (
        (check_container_deployer, container(tmp_path)),
        (check_image_builder, examined("image_builder", "local")),
    ):
        assert "Cannot connect to the Docker daemon at unix:///x.; start its daemon: systemctl" in trouble(
            check(component)
        )
    engine(path, "podman", 'case $1 in info) echo 5.0;; *) echo "Error: serving: image not known" >&2; exit 125;; esac')
    seen = trouble(check_container_deployer(container(tmp_path, "podman")))
    assert "image serving:1: missing from podman; build it: make images" in seen
    assert "podman answers" in well(check_image_builder(examined("image_builder", "local")))
    engine(path, "podman", "echo sha256:abcdef")
    assert "has serving:1 (abcdef)" in well(check_container_deployer(container(tmp_path, "podman")))


def test_a_folder_is_written_and_left_as_it_was(tmp_path):
    assert "writable" in well(check_folder(tmp_path / "a" / "b", "x"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "file cannot be written" in trouble(check_folder(tmp_path / "file" / "b", "x"))


def test_a_disk_that_is_read_only_or_full_is_named(tmp_path):
    with mounted(tmp_path / "ro", "ro") as folder:
        seen = trouble(check_folder(folder / "serving", "endpoints"))
        assert "cannot be written (Read-only file system); make it writable, or set VISIONOPS_HOME" in seen
    with mounted(tmp_path / "small", "size=64k") as folder:
        seen = trouble(check_folder(folder, "endpoints"))
        assert seen.startswith(f"broken: {folder}: 0.0 GiB free; free disk space for endpoints, or set")
    with mounted(tmp_path / "larger", "size=1g") as folder:
        assert trouble(check_folder(folder, "x")).startswith(f"warning: {folder}: 1.0 GiB free")


def test_steps_elsewhere_cannot_use_a_folder_of_this_machine(tmp_path):
    seen = trouble(check_artifact_folder(examined("artifact_store", "local", "kubernetes", path=str(tmp_path))))
    assert "steps run elsewhere; give the stack an s3 artifact store" in seen
