"""Provide our checks of images and labels and our drift tests as a ZenML data validator.

Loading a stack imports this module, so it imports the domain only where it is used.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zenml.data_validators.base_data_validator import BaseDataValidator, BaseDataValidatorFlavor

from stacks.validators.flavors import ImagesValidatorFlavor
from visionops.errors import StackError

if TYPE_CHECKING:
    import pyarrow as pa

    from visionops.data.dataset import Dataset
    from visionops.data.findings import Code, Finding
    from visionops.data.settings import ValidationPolicy
    from visionops.data.validation.inspected import InspectedImages
    from visionops.data.validation.report import ValidationReport
    from visionops.monitoring.drift.report import DriftReport
    from visionops.monitoring.drift.validator import DriftFindings
    from visionops.monitoring.settings import DriftSettings

__all__ = ["ImagesValidator"]

_OURS = "stacks.validators."


class ImagesValidator(BaseDataValidator):
    """An `ImageValidator` and a `DriftValidator`. To write your own, subclass it: docs/how-to/own-validator.md."""

    NAME: ClassVar[str] = "VisionOps"
    FLAVOR: ClassVar[type[BaseDataValidatorFlavor]] = ImagesValidatorFlavor
    OF_DRIFT: ClassVar[frozenset[str]] = frozenset()
    """Settings for drift alone, which are not part of `identity`."""

    @property
    def identity(self) -> str:
        """Return a digest of flavor, settings and source of a subclass that is not ours; "" for our own checks."""
        own = [cls for cls in type(self).__mro__ if issubclass(cls, ImagesValidator) and not _is_ours(cls)]
        if not own:
            return ""
        settings = self.config.model_dump(mode="json", exclude=set(self.OF_DRIFT))
        digest = hashlib.sha256(json.dumps([self.flavor, settings], sort_keys=True).encode())
        for cls in own:
            digest.update(_source(cls))
        return digest.hexdigest()

    def inspect_images(
        self, images: Dataset, policy: ValidationPolicy, progress: Callable[[int], None] | None = None
    ) -> InspectedImages:
        """Decode every image; see `ImageValidator`. A subclass can refuse images here with `InspectedImages.refuse`."""
        from visionops.data.validation.inspected import inspect_shard

        return inspect_shard(images, policy, progress)

    def validate_images(
        self,
        dataset: Dataset,
        parts: Sequence[InspectedImages],
        policy: ValidationPolicy,
        fetch: Callable[[Dataset], Dataset] = lambda images: images,
    ) -> ValidationReport:
        """Judge all images together; see `ImageValidator`."""
        from visionops.data.validation.judging import validate_inspected

        return validate_inspected(dataset, parts, policy, fetch)

    def detect_drift(
        self,
        reference: pa.Table,
        current: pa.Table,
        settings: DriftSettings,
        use_case: str,
        history: pa.Table | None = None,
    ) -> DriftFindings:
        """Compare by our tests alone; see `DriftValidator`.

        Raises:
            StackError: The settings require Evidently's tests.
        """
        from visionops.monitoring.drift.detection import detect_drift
        from visionops.monitoring.drift.rendering import render_drift_html
        from visionops.monitoring.drift.validator import DriftFindings
        from visionops.monitoring.settings import DriftMethod

        del use_case
        if settings.method is not DriftMethod.VISIONOPS:
            raise StackError(
                f"data validator {self.name!r}: flavor {self.flavor} does not support monitoring.drift.method: "
                f"{settings.method}; set it to {DriftMethod.VISIONOPS}, or use a stack with one of flavor "
                "visionops_evidently"
            )
        report = detect_drift(reference, current, settings, history)
        return DriftFindings(report, render_drift_html(report))

    def data_profiling(
        self,
        dataset: Any,
        comparison_dataset: Any = None,
        profile_list: Sequence[Any] | None = None,
        *,
        policy: ValidationPolicy | None = None,
        settings: DriftSettings | None = None,
        use_case: str = "",
        **kwargs: Any,
    ) -> str:
        """Return an HTML page: the card of a data set, or what drifted between two tables of records.

        Args:
            dataset: A `Dataset` whose images are on this machine; with ``comparison_dataset`` the reference, columns of
                `visionops.monitoring.record`.
            comparison_dataset: The window that is compared with the reference.
            profile_list: Ignored: there is one page.
            policy: Policy of the validation; the default policy when absent.
            settings: Settings of the comparison; the default settings when absent.
            use_case: Name under which the comparison is stored, if the flavor keeps a history.
            kwargs: Ignored.
        """
        del profile_list, kwargs
        if comparison_dataset is None:
            return self._validate(dataset, policy).card
        return self._compare(dataset, comparison_dataset, settings, use_case).page

    def data_validation(
        self,
        dataset: Any,
        comparison_dataset: Any = None,
        check_list: Sequence[Code] | None = None,
        *,
        policy: ValidationPolicy | None = None,
        settings: DriftSettings | None = None,
        use_case: str = "",
        **kwargs: Any,
    ) -> tuple[Finding, ...] | DriftReport:
        """Return the findings of a data set, or the report on what drifted between two tables of records.

        Args:
            dataset: As for `data_profiling`, like the other arguments.
            comparison_dataset: The window.
            check_list: Codes of the findings to return; all when absent. Ignored for drift.
            policy: Policy of the validation.
            settings: Settings of the comparison.
            use_case: Name of the history.
            kwargs: Ignored.
        """
        del kwargs
        if comparison_dataset is not None:
            return self._compare(dataset, comparison_dataset, settings, use_case).report
        findings = self._validate(dataset, policy).findings
        return findings if check_list is None else tuple(one for one in findings if one.code in check_list)

    def _validate(self, dataset: Dataset, policy: ValidationPolicy | None) -> ValidationReport:
        from visionops.data.settings import ValidationPolicy
        from visionops.data.validation.validator import validate_by

        return validate_by(self, dataset, policy or ValidationPolicy())

    def _compare(
        self, reference: pa.Table, current: pa.Table, settings: DriftSettings | None, use_case: str
    ) -> DriftFindings:
        from visionops.monitoring.settings import DriftSettings

        return self.detect_drift(reference, current, settings or DriftSettings(), use_case)


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith(_OURS)


def _source(cls: type) -> bytes:
    """Return the source of a class's module, or only its name if it has no file."""
    file = inspect.getsourcefile(sys.modules[cls.__module__])
    return Path(file).read_bytes() if file else f"{cls.__module__}.{cls.__qualname__}".encode()
