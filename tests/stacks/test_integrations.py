import subprocess
import sys

PROGRAM = """
import sys
from zenml.integrations.registry import integration_registry
from stacks.integrations import leave_out_unused_integrations
leave_out_unused_integrations()
integration_registry.activate_integrations()
print(*sorted({"PIL", "polars", "sklearn", "torch"} & sys.modules.keys()))
"""


def test_zenml_imports_no_library_that_no_artifact_is_of(tmp_path, monkeypatch):
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["PIL"]
