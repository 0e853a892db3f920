"""The models of one process, by name and version.

A request takes its model once and keeps it to its end, so a change never mixes two models in one answer.
"""

from __future__ import annotations

from deploy.serving.errors import NoModel, UnknownModel
from deploy.serving.models import ServedModel

__all__ = ["Models"]


class Models:
    """Who answers under which name. Changed by one caller at a time; read by any."""

    def __init__(self) -> None:
        self._champions: dict[str, ServedModel] = {}

    def get(self, name: str = "", version: str = "") -> ServedModel:
        """The champion of a name, or the model of exactly that version.

        Args:
            name: "": the default, which is the first that was loaded.

        Raises:
            NoModel: There is none at all.
            UnknownModel: There is none of that name or version.
        """
        if not self._champions:
            raise NoModel("no model is loaded; start the server with --bundle, or deploy one")
        found = self._champions.get(name or next(iter(self._champions)))
        if found is None:
            raise UnknownModel(f"model {name!r} is not served here; there are: {', '.join(self._champions)}")
        if version not in {"", found.ref.version}:
            raise UnknownModel(f"model {found.ref.name!r} is not served in version {version!r}")
        return found

    def all(self) -> list[ServedModel]:
        """All that answer, the default first."""
        return list(self._champions.values())

    def set_champion(self, model: ServedModel) -> None:
        """New requests of its name take ``model``; requests in flight end on the one they took."""
        self._champions = self._champions | {model.ref.name: model}
