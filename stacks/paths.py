"""Check for paths that our libraries cannot use."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from visionops.errors import StackError
from visionops.home import visionops_home

__all__ = ["require_usable_paths"]


_BREAKS = {"?": "SQLite", "\\": "ZenML", "'": "Ultralytics"}


def require_usable_paths() -> None:
    """Check the paths of the Python environment and of our folders, before a library fails with a traceback.

    ZenML and MLflow pass the folder of their migrations to Alembic's configuration, where ``%`` starts a variable. They
    name SQLite databases by a URL, which ends at ``?``. ZenML turns a backslash in its artifact store's path into a
    slash and then finds the file outside the store. Ultralytics drops an apostrophe from the path of a checkpoint and
    fails after the last epoch.

    Raises:
        StackError: The path of the Python environment or of one of our folders has such a character.
    """
    for library in ("zenml", "mlflow"):
        spec = find_spec(library)
        if spec is not None and spec.origin is not None and "%" in spec.origin:
            raise StackError(
                f"{Path(spec.origin).parent}: {library} cannot be used from a folder with % in its path; move the "
                "project to a path without it, and create .venv again"
            )
    places = (
        ("VISIONOPS_HOME", str(visionops_home()), "?\\'"),
        ("ZENML_CONFIG_PATH", os.environ.get("ZENML_CONFIG_PATH", ""), "?\\"),
    )
    for variable, folder, refused in places:
        if found := next((character for character in refused if character in folder), None):
            raise StackError(
                f"{folder}: {_BREAKS[found]} cannot work in a folder with {found} in its path; set {variable} to "
                "another"
            )
