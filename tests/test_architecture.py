"""Imports run only downward: analysis → inference → models; nothing changes JAX's configuration on import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {
    "models": {"models"},
    "inference": {"models", "inference"},
    "analysis": {"models", "inference", "analysis"},
}


@pytest.mark.parametrize("layer", BELOW)
def test_imports_run_downward(layer):
    for path in (ROOT / layer).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names = [node.module]
            reached = {name.split(".")[0] for name in names} & set(BELOW)
            assert reached <= BELOW[layer], f"{path} imports {reached - BELOW[layer]}"


def test_importing_changes_no_configuration():
    code = (
        "import jax; before = dict(jax.config.values); "
        "import models, inference, inference.fixed_points, analysis, analysis.cli; "
        "assert dict(jax.config.values) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
