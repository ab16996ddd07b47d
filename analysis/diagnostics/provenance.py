"""What a result is of, as its attributes say: network, data, scheme and settings."""

import json

import numpy as np
import xarray as xr

import inference


def settings_of(tree: xr.DataTree) -> dict:
    """The settings of the scheme."""
    return json.loads(tree.attrs.get("settings", "{}"))


def name_of(tree: xr.DataTree) -> str:
    """Scheme, prior and κ of a result, as a comparison labels it."""
    kappa = json.loads(tree.attrs["network"])["kappa"]
    return f"{tree.attrs['scheme']}-{tree.attrs['prior']}-kappa{kappa:g}"


def bias_order(tree: xr.DataTree) -> int | None:
    """p where the step size ε biases means by O(εᵖ); None for NUTS, MALA, independent draws."""
    kernel = getattr(inference, settings_of(tree).get("kernel", ""), None)
    return getattr(kernel, "bias_order", None)


def same_posterior(first: xr.DataTree, second: xr.DataTree) -> bool:
    """Whether two results are of one network on one data set."""
    return first is second or not _what_differs(first, second)


def check_same_posterior(first: xr.DataTree, second: xr.DataTree) -> None:
    """``ValueError`` unless two results are of one network on one data set."""
    if what := _what_differs(first, second):
        raise ValueError(
            f"the two results are not of one {what}; compare runs of the same network on the same data."
        )


def _what_differs(first: xr.DataTree, second: xr.DataTree) -> str | None:
    # Whether a scheme integrates the readouts out does not change the posterior.
    networks = [json.loads(t.attrs.get("network", "{}")) | {"readouts": None} for t in (first, second)]
    if networks[0] != networks[1]:
        return "network"
    held_out = [f"predictions_constant_data/{name}" for name in ("x_test", "y_test")]
    names = ("constant_data/x", "observed_data/y", *held_out)
    same_data = all(np.array_equal(first[name], second[name]) for name in names)
    return None if same_data else "data"
