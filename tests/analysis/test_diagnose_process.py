"""Importing and drawing leave the process as it was: no backend, no option, no signal handler
changes."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os, signal, sys, warnings
import arviz, jax, matplotlib, numpy, numpyro, optax, pandas, rich, scipy.optimize, scipy.stats, tyro

def state():
    return {
        "matplotlib": dict(dict.items(matplotlib.rcParams)),
        "environment": dict(os.environ),
        "warnings": list(map(str, warnings.filters)),
        "numpy": (numpy.geterr(), numpy.get_printoptions()),
        "folder": os.getcwd(),
        "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)],
        "hooks": (str(sys.excepthook), sys.getrecursionlimit(), sys.getswitchinterval()),
        "jax": dict(jax.config.values),
        "pandas": str(pandas.options.display.max_columns),
    }

before = state()
import analysis
from analysis import plots
import synthetic_trees
tree = synthetic_trees.good_run(0)[2]
plots.plot_energy(tree)
plots.plot_function_traces(tree)
after = state()
print([(name, before[name], after[name]) for name in after if str(after[name]) != str(before[name])])
assert not matplotlib.pyplot.get_fignums()
"""


@pytest.mark.process
def test_import_changes_nothing():
    # What a user has imported first: those libraries change warning filters and the environment
    # themselves.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
