"""The README stays short, its links lead somewhere, and .ci/examples.py can tell outputs apart."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def examples():
    spec = importlib.util.spec_from_file_location("examples", ROOT / ".ci" / "examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https:") or (ROOT / page).parent.joinpath(link).exists(), link


def test_commands_of_the_readme_are_run(examples):
    typed = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    left_to_it = [block for block in examples.blocks("sh") if f"\n{block}" in typed]
    assert left_to_it == ["pip install -e . && mfzoo compare\n", 'pip install -e ".[test]" && pytest -n 2\n']


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("nuts  0.81  NaN", "nuts 0.83 NaN", True),
        ("nuts  0.81  NaN", "nuts 0.85 NaN", False),
        ("nuts  0.81  NaN", "sgld 0.81 NaN", False),
        ("nuts  0.81", "nuts 0.81 1.01", False),
        ("m = -0.05", "m = 0.05", False),
    ],
)
def test_outputs_agree_within_the_decimals_shown(examples, shown, printed, same):
    assert examples.agree(shown, printed) is same
