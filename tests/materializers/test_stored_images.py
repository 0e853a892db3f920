"""Test in a ZenML run that outputs derived from a stored data set need no local images."""

import numpy as np
import pytest
from PIL import Image

from materializers.folder import FolderMaterializer
from tests.helpers.zenml_homes import empty_database, own_zenml
from visionops.home import visionops_home

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code


def test_images_travel_through_a_step_that_does_not_fetch_them(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(FolderMaterializer, "_is_local", False)  # like a bucket
    for i in range(2):
        Image.fromarray(np.full((8, 8, 3), 100 * i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    with own_zenml(tmp_path_factory.mktemp("zenml"), empty_database(tmp_path_factory)):
        from tests.materializers.cutting import cutting

        run = cutting(str(tmp_path))
        prepared = run.steps["cut"].outputs["prepared"][0].load()
        assert [path.read_bytes() for path in prepared.paths()] == [(tmp_path / "1.png").read_bytes()]
        assert prepared.paths()[0].is_relative_to(visionops_home())
