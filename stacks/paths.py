"""Which folders the libraries below us can work in."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from visionops.errors import StackError
from visionops.home import visionops_home

__all__ = ["require_usable_paths"]


def require_usable_paths() -> None:
    """See that ZenML and MLflow can work where they are, before they print a trace.

    Both give the folder of their migrations to Alembic's configuration, which takes ``%`` for the begin of a variable.
    Both keep SQLite databases named by a URL, which ends at ``?``. ZenML turns a backslash of its artifact store into a
    slash, and then finds the file outside of the store.

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
    zenml = os.environ.get("ZENML_CONFIG_PATH", "")
    for variable, folder in (("VISIONOPS_HOME", str(visionops_home())), ("ZENML_CONFIG_PATH", zenml)):
        for character in "?\\":
            if character in folder:
                raise StackError(
                    f"{folder}: ZenML and MLflow cannot work in a folder with {character} in its path; set "
                    f"{variable} to another"
                )
