"""Compute features of a frozen backbone once for each image, and cache them by the image's content.

    cache/features/{key}/    a folder for each backbone, weights, preprocessing and computing engine
        {any}.parquet        image (SHA-256), view, features; written atomically

Several trainings may fill one folder at once. Features are computed by the graph and the engine that will serve them,
one image at a time, so that a feature depends only on its image and a head is served with the features it was trained
on. On a GPU torch computes them, in batches of one size, in full precision.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.dataset import Dataset
from visionops.home import visionops_home
from visionops.inference.bundle import BundleCard, Decode, Head, ModelBundle
from visionops.inference.engines import load_engine
from visionops.inference.preprocessing import to_tensor
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.inference.settings import EngineName
from visionops.tasks.classification.backbones import Backbone
from visionops.tasks.classification.pixels import VIEWS, look, read_canvases
from visionops.tasks.classification.settings import Views

__all__ = ["FeatureStore", "weights_digest"]

_LOG = logging.getLogger("visionops.training")
_VERSION = 1
_SEGMENT = 512
"""Number of features in a file, which is the most that an interruption loses."""
_BATCH = 32

Features = npt.NDArray[np.float32]
_Name = tuple[str, int]
"""SHA-256 of an image, and the view of it."""


def weights_digest(module: Any) -> str:
    """Return the SHA-256 over the names and values of all weights of a torch module, lower-case hex."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class FeatureStore:
    """Features of one backbone behind one preprocessing.

    Args:
        model: Name of the backbone.
        device: Torch device; any other than ``cpu`` computes with torch.
        keep: Whether features are stored for later trainings.
    """

    def __init__(self, backbone: Backbone, model: str, spec: PreprocessingSpec, device: str, keep: bool = True) -> None:
        self._backbone, self._spec, self._device = backbone, spec, device
        self._extractor: _Extractor | None = None
        identity = {
            "version": _VERSION,
            "model": model,
            "weights": weights_digest(backbone.module),
            "preprocessing": spec.model_dump(mode="json"),
            "computed_by": EngineName.OPENVINO.value if device == "cpu" else "torch",
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
        self.folder = visionops_home() / "cache" / "features" / key if keep else None

    def features(
        self,
        dataset: Dataset,
        views: Views = Views.NONE,
        *,
        workers: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Features:
        """Return the features of every image.

        Args:
            dataset: Data set with hashes; its images are on this machine.
            workers: Number of threads that decode.
            progress: Called with the number of images computed and their total.

        Returns:
            float32 (images, views, width), views in the order of `VIEWS`; the first is the unchanged image.

        Raises:
            DataError: A file cannot be read, or is not a usable image.
        """
        digests, numbers = dataset.column("sha256"), VIEWS[views]
        wanted = {(digest, view) for digest in digests for view in numbers}
        found = self._read(wanted)
        rows: dict[str, int] = {}
        for row, digest in enumerate(digests):
            if any((digest, view) not in found for view in numbers):
                rows.setdefault(digest, row)
        self._compute(dataset, list(rows.values()), numbers, found, workers, progress)
        return np.stack([np.stack([found[digest, view] for view in numbers]) for digest in digests])

    def _compute(
        self,
        dataset: Dataset,
        rows: Sequence[int],
        views: Sequence[int],
        found: dict[_Name, Features],
        workers: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Add missing features to ``found``, and to the folder."""
        if not rows:
            return
        digests = dataset.column("sha256")
        fresh: dict[_Name, Features] = {}
        extract = self._load()
        stream = zip(rows, read_canvases(dataset, self._spec, rows, workers), strict=True)
        for done, (row, canvas) in enumerate(stream, start=1):
            for view in views:
                if (digests[row], view) not in found:
                    extract((digests[row], view), look(canvas, view), fresh)
            if len(fresh) >= _SEGMENT:
                self._write(fresh)
                found |= fresh
                fresh.clear()
            if progress:
                progress(done, len(rows))
        extract.flush(fresh)
        self._write(fresh)
        found |= fresh

    def _load(self) -> _Extractor:
        """Return the extractor, loaded when a feature is missing."""
        if self._extractor is None:
            if self._device == "cpu":
                with tempfile.TemporaryDirectory() as folder:
                    self._extractor = _EngineExtractor(self._backbone, self._spec, Path(folder))
            else:
                self._extractor = _TorchExtractor(self._backbone.module, self._spec, self._device)
        return self._extractor

    def _read(self, wanted: set[_Name]) -> dict[_Name, Features]:
        found: dict[_Name, Features] = {}
        for file in sorted(self.folder.glob("*.parquet")) if self.folder else ():
            try:
                names = pq.read_table(file, columns=["image", "view"])
                pairs = list(zip(names["image"].to_pylist(), names["view"].to_pylist(), strict=True))
                rows = [i for i, pair in enumerate(pairs) if pair in wanted and pair not in found]
                if rows:
                    column = pq.read_table(file, columns=["features"])["features"].combine_chunks()
                    values = column.values.to_numpy().reshape(len(pairs), -1)
                    found.update({pairs[i]: values[i] for i in rows})
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                _LOG.warning("%s: cannot be read (%s); its features are computed again", file, error)
        return found

    def _write(self, fresh: dict[_Name, Features]) -> None:
        if not fresh or self.folder is None:
            return
        values = pa.array(np.concatenate(list(fresh.values())))
        table = pa.table(
            {
                "image": pa.array([digest for digest, _ in fresh]),
                "view": pa.array([view for _, view in fresh], pa.int8()),
                "features": pa.FixedSizeListArray.from_arrays(values, self._backbone.width),
            }
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{uuid.uuid4().hex}.{os.getpid()}.part"
        try:
            pq.write_table(table, partial, compression="none")
            partial.rename(partial.with_suffix(".parquet"))
        finally:
            partial.unlink(missing_ok=True)


class _Extractor:
    """Store the features of a canvas under its name, at once or by `flush` at the latest."""

    def __call__(self, name: _Name, canvas: npt.NDArray[np.uint8], into: dict[_Name, Features]) -> None:
        raise NotImplementedError

    def flush(self, into: dict[_Name, Features]) -> None:
        """Store all remaining features."""


class _EngineExtractor(_Extractor):
    def __init__(self, backbone: Backbone, spec: PreprocessingSpec, folder: Path) -> None:
        from visionops.tasks.classification.export import export_graph
        from visionops.tasks.classification.networks import LabelNetwork

        self._spec = spec
        names = ("no", "yes")  # the graph needs a head, but its output is not used
        export_graph(LabelNetwork(backbone.module, backbone.width, [2]), spec.width, folder / "model.onnx")
        card = BundleCard(
            task="classification",
            name="features",
            architecture="features",
            class_names=names,
            heads=(Head(name="none", class_names=names),),
            preprocessing=spec,
            decode=Decode.LOGITS,
        )
        self._engine = load_engine(ModelBundle.create(folder, card), EngineName.OPENVINO)

    def __call__(self, name: _Name, canvas: npt.NDArray[np.uint8], into: dict[_Name, Features]) -> None:
        into[name] = self._engine.infer(to_tensor(canvas[None], self._spec))[1][0]


class _TorchExtractor(_Extractor):
    def __init__(self, module: Any, spec: PreprocessingSpec, device: str) -> None:
        self._module, self._spec, self._device = module.to(device).eval(), spec, device
        self._waiting: list[tuple[_Name, npt.NDArray[np.uint8]]] = []

    def __call__(self, name: _Name, canvas: npt.NDArray[np.uint8], into: dict[_Name, Features]) -> None:
        self._waiting.append((name, canvas))
        if len(self._waiting) == _BATCH:
            self.flush(into)

    def flush(self, into: dict[_Name, Features]) -> None:
        import torch

        if not self._waiting:
            return
        canvases = np.zeros((_BATCH, self._spec.height, self._spec.width, 3), dtype=np.uint8)
        canvases[: len(self._waiting)] = np.stack([canvas for _, canvas in self._waiting])
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            tensor = torch.from_numpy(to_tensor(canvases, self._spec)).to(self._device)
            features = self._module(tensor).float().cpu().numpy()
        into.update({name: features[i] for i, (name, _) in enumerate(self._waiting)})
        self._waiting.clear()
