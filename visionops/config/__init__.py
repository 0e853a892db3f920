"""The configuration of a use case: typed, strict, one YAML file.

Unknown keys are refused with file, line and the nearest known key, because a setting that is silently ignored costs
days. ``--set training.epochs=5`` goes through the same checks. Each package of `visionops` has the settings of its own
sections in a leaf module; this package composes and loads them.

>>> config = load_config(Path("configs/steel.yaml"), ["training.epochs=5"])
>>> config.training.epochs
5
"""

from __future__ import annotations

from visionops.config.loading import load_config, parse_settings
from visionops.config.use_case import Config, with_training

__all__ = ["Config", "load_config", "parse_settings", "with_training"]
