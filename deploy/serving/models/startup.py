"""Load the models that a server starts with: one bundle, or several from a YAML file.

    models:
      - name: steel
        version: "3"
        bundle: bundles/steel-3          # relative to this file
      - name: steel
        role: canary
        share: 0.1
        version: "4"
        bundle: bundles/steel-4
      - name: pcb
        version: "1"
        bundle: bundles/pcb-1

The first name is the default. If a model does not load, its name is not ready, and the others are served.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploy.serving.models.models import Loader, ServedModel
from deploy.serving.models.roles import ModelRole
from deploy.serving.settings import Placement, Settings
from visionops.errors import ConfigError, VisionOpsError

if TYPE_CHECKING:
    from deploy.serving.models.registry import Models

__all__ = ["ModelsFile", "Started", "read_models", "read_smoke_images", "start_models"]


class ModelsFile(BaseModel):
    """Content of a models file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[Placement, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _agree(self) -> ModelsFile:
        seen: set[tuple[str, ModelRole]] = set()
        champions = {p.name for p in self.models if p.role is ModelRole.CHAMPION}
        for row, placement in enumerate(self.models):
            if (placement.name, placement.role) in seen:
                raise ValueError(f"models.{row}.name: {placement.name!r} has a {placement.role} already; remove one")
            if placement.name not in champions:
                raise ValueError(f"models.{row}.role: {placement.name!r} has no champion in this file; add it")
            seen.add((placement.name, placement.role))
        return self


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """Result of loading one model at the start."""

    placement: Placement
    outcome: ServedModel | VisionOpsError
    resumes: bool = False
    """Whether it is the candidate of a release, whose hold may have begun in a previous process."""

    def enter(self, models: Models) -> None:
        """Serve the model, or store its error in the status of its name."""
        models.expect(self.placement.name)
        if isinstance(self.outcome, ServedModel):
            models.place(self.outcome, self.placement, resume=self.resumes)
        else:
            models.load_failed(self.placement, self.outcome)


def read_models(path: Path) -> tuple[Placement, ...]:
    """Read a models file.

    Raises:
        ConfigError: The file is invalid; the message has file, line and the fix.
    """
    from visionops.config import parse_settings  # imported here, because a server with one model needs no YAML

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be read ({reason}); give --models a YAML file of models") from error
    placements = parse_settings(text, path, ModelsFile).models
    return tuple(p.model_copy(update={"bundle": path.parent / p.bundle}) for p in placements)


def start_models(settings: Settings, loader: Loader) -> list[Started]:
    """Load the models of the settings, champions first; a name whose champion fails gets no other model.

    Raises:
        ConfigError: The file, or a smoke image, cannot be used.
        VisionOpsError: No model loads.
    """
    smoke = read_smoke_images(settings)
    single = settings.model_ref()
    placements: Sequence[Placement] = read_models(settings.models) if settings.models else [single] if single else []
    started: list[Started] = []
    for placement in sorted(placements, key=lambda p: p.role is not ModelRole.CHAMPION):
        if placement.role is ModelRole.CHAMPION or placement.name in _ready(started):
            started.append(_start(placement, loader, smoke))
    candidate = settings.candidate_ref()
    if candidate is not None and _ready(started):
        # If the candidate does not load, the champion answers all requests, and /release has the reason.
        started.append(dataclasses.replace(_start(candidate, loader, smoke), resumes=True))
    if started and not _ready(started):
        first = started[0].outcome
        assert isinstance(first, VisionOpsError)
        if settings.models:
            raise ConfigError(f"{settings.models}: no model loads; the first error: {first}") from first
        raise first
    return started


def read_smoke_images(settings: Settings) -> Sequence[bytes]:
    """Return the encoded images of the smoke test; none if no folder is set.

    Raises:
        ConfigError: The folder cannot be read.
    """
    if (folder := settings.smoke_images) is None:
        return ()
    try:
        return [path.read_bytes() for path in sorted(folder.iterdir())]
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); give --smoke-images a folder") from error


def _start(placement: Placement, loader: Loader, smoke: Sequence[bytes]) -> Started:
    try:
        return Started(placement, loader.load(placement, smoke))
    except VisionOpsError as error:
        return Started(placement, error)


def _ready(started: Sequence[Started]) -> set[str]:
    return {s.placement.name for s in started if isinstance(s.outcome, ServedModel)}
