import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"PIL", "cv2", "numpy", "onnxruntime", "openvino", "optuna", "pyarrow", "torch", "visionops.monitoring.drift"}


def test_imports_point_one_way():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "12 kept, 0 broken" in done.stdout


# The linter reads import statements; only a real import shows what the __init__ of each parent package imports.
@pytest.mark.parametrize(
    ("pattern", "fewest"),
    [("visionops/**/settings.py", 10), ("visionops/config/*.py", 4), ("stacks/deployers/*.py", 10)],
)
def test_settings_and_deployers_are_imported_without_engines(pattern, fewest):
    modules = [path.relative_to(ROOT).with_suffix("") for path in sorted(ROOT.glob(pattern))]
    assert len(modules) >= fewest
    names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
    code = f"import sys, {', '.join(names)}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", ["deploy.serving.app", "visionops.review.service", "visionops.config"])
def test_servers_and_the_domain_of_review_come_without_a_database(module):
    code = f"import sys, {module}; print(*sorted({{'sqlalchemy', 'alembic', 'psycopg'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.split() == []


def test_run_py_knows_launch_and_the_domain_alone():
    # The linter checks packages, and run.py is a module.
    names = set()
    for node in ast.walk(ast.parse((ROOT / "run.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert names & ours == {"launch", "visionops"}
