"""Imports run only downward: analysis → inference → models; nothing changes JAX's configuration on
import."""

import ast
import graphlib
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


def imported(path, modules):
    """The modules of the tree that the file imports, function bodies and type checking included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in modules else node.module for name in names)


def test_no_circle_of_imports():
    modules = {}
    for path in (p for layer in BELOW for p in (ROOT / layer).rglob("*.py")):
        if path.name not in ("__init__.py", "conftest.py", "__main__.py"):
            modules[".".join(path.relative_to(ROOT).with_suffix("").parts)] = path
    graph = {name: set(imported(path, modules)) & modules.keys() for name, path in modules.items()}
    order = graphlib.TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the circle
    assert len(graph) > 150


def test_importing_changes_no_configuration():
    code = (
        "import jax; before = dict(jax.config.values); "
        "import models, inference, inference.fixed_points, analysis, analysis.cli; "
        "assert dict(jax.config.values) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
