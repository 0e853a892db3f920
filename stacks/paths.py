"""Which folders the libraries below us can work in."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from visionops.errors import StackError
from visionops.home import visionops_home

__all__ = ["require_usable_paths"]


_BREAKS = {"?": "SQLite", "\\": "ZenML", "'": "Ultralytics"}


def require_usable_paths() -> None:
    """See that the libraries can work where they are and where we keep things, before one prints a trace.

    ZenML and MLflow give the folder of their migrations to Alembic's configuration, where ``%`` begins a variable. They
    name SQLite databases by a URL, which ends at ``?``. ZenML turns a backslash of its artifact store into a
    slash, and then finds the file outside of the store. Ultralytics drops an apostrophe from the path of a checkpoint,
    and fails when all epochs are done.

    Raises:
        StackError: The Python environment or a folder of ours has such a character in its path.
    """
    for library in ("zenml", "mlflow"):
        spec = find_spec(library)
        if spec is not None and spec.origin is not None and "%" in spec.origin:
            raise StackError(
                f"{Path(spec.origin).parent}: {library} cannot be used from a folder with % in its path; move the "
                "project to one without, and make .venv anew"
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
