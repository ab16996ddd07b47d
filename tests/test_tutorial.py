"""The tutorial's commands run as they stand in docs/tutorial.md, on a problem that takes
seconds."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def tutorial():
    spec = importlib.util.spec_from_file_location("tutorial", DOCS / "tutorial.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.process
def test_the_tutorial_runs(tutorial, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))  # taken off again, as the module is
    monkeypatch.delitem(__import__("sys").modules, "my_prior", raising=False)
    tutorial.run(tmp_path, small=True)
    table = pd.read_csv(tmp_path / "runs" / "my-prior" / "table.csv")
    assert set(zip(table.prior, table.scheme, strict=True)) == {
        (prior, scheme) for prior in ("isotropic", "myprior") for scheme in ("nuts", "mf-guide")
    }
    assert table.order_parameter.between(-1, 2).all()
    made = {f"runs/{path.parent.name}/{path.name}" for path in (tmp_path / "runs").rglob("*.png")}
    wanted = {
        name.replace("traces-sgld-myprior-kappa0.1", "traces-nuts-myprior-kappa0.3")
        for name in tutorial.FIGURES
    }
    assert wanted <= made


def test_the_tutorial_names_its_figures_and_its_prior_is_short(tutorial):
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    for name in tutorial.FIGURES.values():
        assert f"figures/tutorial/{name}" in text
        assert (DOCS / "figures" / "tutorial" / name).stat().st_size < 120_000
    body = tutorial.blocks("python")[0].partition("@dataclass")[2].splitlines()
    assert len([line for line in body if line.strip()]) <= 10
    assert len(tutorial.commands()) == 2
    assert all("16" not in command for command in tutorial.commands(small=True))
