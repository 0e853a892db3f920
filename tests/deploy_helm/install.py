"""Extract the program `helm` from the package that requirements.txt names: make helm.

>>> python tests/deploy_helm/install.py FOLDER_OF_THE_PACKAGE .helm
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def install(package: Path, folder: Path) -> None:
    """Write ``folder``/helm from the archive inside the package."""
    (outer,) = package.rglob("lambda-layer-kubectl-*.jsii.tgz")
    with tarfile.open(outer) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            program = files.read("helm/helm")
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / "helm", folder / "helm.partial"
    partial.write_bytes(program)
    partial.chmod(0o755)
    partial.replace(target)


if __name__ == "__main__":
    install(Path(sys.argv[1]), Path(sys.argv[2]))
