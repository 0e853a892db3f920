"""Every error that VisionOps raises deliberately.

    VisionOpsError
    ├── ConfigError            a configuration file or a --set override cannot be used
    ├── DataError              a data set cannot be read, split or written
    │   ├── AnnotationError    an annotation file is malformed or contradicts its images
    │   ├── LabelError         a label by a person does not fit the task, its classes or the image
    │   ├── ImageError         the bytes of one image cannot be used
    │   ├── MetricError        the test images do not define the requested metric
    │   └── ValidationStopped  the validation policy stops the run
    ├── TrainingError          the trainer cannot start, or did not produce a model
    ├── QuantizationError      a model cannot be quantized, or is quantized already
    ├── TaskError              a task is not registered, or its package cannot be imported
    ├── OptionError            a request sets an option that the model's task does not have
    ├── BundleError            a model bundle is missing, corrupt or of another version
    ├── RegistryError          the model registry does not answer, or contradicts itself
    │   └── ChampionChangedError  another run made another version champion meanwhile
    ├── DeploymentError        an endpoint cannot be started, switched or stopped, or does not answer
    ├── StackError             a stack file or a stack component cannot be used
    └── ReviewError            what review refuses; its tree is in `visionops.review.errors`

A message is one line that names the place and the fix. The command line prints it and exits with 2; the
server maps it to a status and a code. A user's mistake never shows a stack trace.
"""

from __future__ import annotations

import re

__all__ = [
    "AnnotationError",
    "BundleError",
    "ChampionChangedError",
    "ConfigError",
    "DataError",
    "DeploymentError",
    "ImageError",
    "LabelError",
    "MetricError",
    "OptionError",
    "QuantizationError",
    "RegistryError",
    "StackError",
    "TaskError",
    "TrainingError",
    "ValidationStopped",
    "VisionOpsError",
    "one_line",
]

_NOT_ON_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line breaks, other control characters, and bytes of file names that are not Unicode."""


_MOST_CHARACTERS = 2000


def one_line(text: str) -> str:
    """Return ``text``, which may quote arbitrary names and files, as one printable line.

    Characters that would break the line, control a terminal or are invalid in UTF-8 become escapes. A text of more than
    2,000 characters loses its middle.
    """
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[: _MOST_CHARACTERS // 2]} … {text[-_MOST_CHARACTERS // 2 :]}"
    return text if text.isprintable() else _NOT_ON_A_LINE.sub(lambda match: repr(match[0])[1:-1], text)


class VisionOpsError(Exception):
    """Base of all errors that a user can fix."""

    code = "visionops_error"

    def __str__(self) -> str:
        # Messages quote file names, class names and messages of other libraries unchanged.
        return one_line(super().__str__())


class ConfigError(VisionOpsError):
    """A configuration file or a ``--set`` override cannot be used."""

    code = "bad_config"


class DataError(VisionOpsError):
    """A data set cannot be read, split or written."""

    code = "bad_data"


class AnnotationError(DataError):
    """An annotation file is malformed, or refers to something missing."""

    code = "bad_annotation"


class LabelError(DataError):
    """A label by a person does not fit the task, its classes or the image."""

    code = "bad_label"


class ImageError(DataError):
    """The bytes of one image cannot be used; ``kind`` says why (a value of `ImageProblem`)."""

    code = "bad_image"

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        # Errors cross process pools: the default pickling would call __init__ with one argument.
        return type(self), (str(self), self.kind)


class MetricError(DataError):
    """The test images do not define the requested metric: there are no labels, or labels of one class only."""

    code = "metric_undefined"


class ValidationStopped(DataError):
    """The validation policy stops the run."""

    code = "validation_stopped"


class TrainingError(VisionOpsError):
    """The trainer cannot start, or did not produce a model."""

    code = "training_failed"


class QuantizationError(VisionOpsError):
    """A model cannot be quantized, or is quantized already."""

    code = "quantization_failed"


class TaskError(VisionOpsError):
    """A task is not registered, or its package cannot be imported."""

    code = "unknown_task"


class OptionError(VisionOpsError):
    """A request sets an option that the model's task does not have."""

    code = "bad_parameter"


class BundleError(VisionOpsError):
    """A model bundle is missing, corrupt or of another version."""

    code = "bad_bundle"


class RegistryError(VisionOpsError):
    """The model registry does not answer, or contradicts itself."""

    code = "registry_error"


class ChampionChangedError(RegistryError):
    """Another run made another version champion after this one was compared with the champion."""

    code = "champion_changed"


class DeploymentError(VisionOpsError):
    """An endpoint cannot be started, switched or stopped, or does not answer."""

    code = "deployment_failed"


class StackError(VisionOpsError):
    """A stack file or a stack component cannot be used."""

    code = "bad_stack"
