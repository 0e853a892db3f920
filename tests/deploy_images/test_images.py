"""Check images: the packages of their extras, pinned by the lock, and no host names."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.images.pick import pick
from deploy.images.slim import slim
from tests.conftest import ROOT

IMAGES = ROOT / "deploy" / "images"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
OVERRIDDEN = {"opencv-python"}
"""Packages that tool.uv in pyproject.toml never installs."""


def needed(extras: Iterable[str]) -> set[str]:
    """Return the packages that the project needs with these extras, from the installed metadata."""
    project, found = PROJECT["project"], set()
    todo = [Requirement(text) for text in project["dependencies"]]
    todo += [Requirement(text) for extra in extras for text in project["optional-dependencies"][extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in OVERRIDDEN or (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        if name == project["name"]:
            todo += [Requirement(t) for e in requirement.extras for t in project["optional-dependencies"][e]]
            continue
        found.add(name)
        todo += list(requirements(name, requirement.extras))
    return found


def requirements(name: str, extras: set[str]) -> Iterator[Requirement]:
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


@pytest.mark.parametrize(
    ("image", "extras"),
    [("serving", ("serving", "postgresql")), ("pipeline", ("pipelines",)), ("console", ("console",))],
)
def test_an_image_has_the_packages_of_its_extras(image, extras):
    listed = (IMAGES / image / "packages.txt").read_text().split()
    assert listed == sorted(set(listed))
    assert set(listed) == needed(extras), "run make lock"
    pins = [line for line in pick(LOCK, "\n".join(listed)).splitlines() if not line.startswith(" ")]
    assert {line.partition("==")[0] for line in pins} == set(listed)


def test_the_server_carries_no_training():
    heavy = {"torch", "torchvision", "ultralytics", "zenml", "mlflow", "matplotlib", "scikit-learn", "nncf"}
    assert not heavy & set((IMAGES / "serving" / "packages.txt").read_text().split())


def test_a_pick_of_the_lock_keeps_digests_and_variants():
    lock = "a==1 ; python_version < '3.12' \\\n    --hash=x\na==2 \\\n    --hash=y\nab==3 \\\n    --hash=z\n"
    assert pick(lock, "a\n") == lock[: lock.index("ab")]
    with pytest.raises(ValueError, match="does not pin b, c; run make lock"):
        pick(lock, "a\nb\nc\n")


def test_what_is_not_used_is_removed_or_named(tmp_path):
    for path in ("one/tests/tests/x.py", "one/y.py", "two/libz.so.1"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    slim(tmp_path, "# a comment\n\n**/tests\ntwo/libz.so.*\n")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["one", "two", "y.py"]
    with pytest.raises(ValueError, match=r"two/libz\.so\.\* matches nothing"):
        slim(tmp_path, "two/libz.so.*\n")


@pytest.mark.parametrize("folder", ["images/serving", "images/pipeline", "images/console", "seldon"])
def test_a_dockerfile_copies_what_there_is_and_names_no_host(folder):
    text = (ROOT / "deploy" / folder / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    sources = [Path(source) for line in copied for source in line.split()]
    assert sources
    assert [str(source) for source in sources if not (ROOT / source).exists()] == []
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source.parts[0] for source in sources} <= sent
    assert set(re.findall(r"https?://([\w.-]+)", text)) <= {"127.0.0.1"}
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
