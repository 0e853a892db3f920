"""Create MLflow experiments with a fixed artifact location."""

from __future__ import annotations

from pathlib import Path

from visionops.errors import StackError

__all__ = ["ensure_experiment"]

_REMOTE = ("http://", "https://", "databricks")


def ensure_experiment(tracking_uri: str, name: str, artifact_root: Path) -> str:
    """Create the experiment ``name`` unless it exists.

    With a plain database, MLflow puts a new experiment's files into ``./mlruns`` of the current folder, so this creates
    the experiment with our location first. A server has its own root.

    Args:
        artifact_root: Parent of the experiment's folder ``name``, for a tracking database on this machine.

    Returns:
        The experiment's id.

    Raises:
        StackError: The database cannot be opened, or the experiment was deleted.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    local = not tracking_uri.startswith(_REMOTE)
    try:
        _make_folder_of(tracking_uri)
        client = mlflow.MlflowClient(tracking_uri)
        if found := client.get_experiment_by_name(name):
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        return str(client.create_experiment(name, (artifact_root / name).resolve().as_uri() if local else None))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise StackError(f"{tracking_uri}: cannot prepare experiment {name!r} ({_first_line(error)})") from error


def _make_folder_of(tracking_uri: str) -> None:
    scheme, _, path = tracking_uri.partition(":///")
    if scheme == "sqlite":
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
