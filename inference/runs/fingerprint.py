"""What determines the draws of a run, as JSON-able values, so that a run is only ever continued as itself."""

import functools
import hashlib
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib.metadata import version

import jax
import numpy as np

from models import Dataset

_PACKAGES = ("mean-field-zoo", "jax", "jaxlib", "numpyro")
# Settings nest a few levels; an object graph that goes deeper is not one.
_DEPTH = 8


def describe_value(value, depth: int = 0):
    """A setting as JSON-able values, the same in every process: arrays by hash, functions by name and code.

    Examples
    --------
    >>> describe_value({"step_size": 0.1, "sites": ("w", "a")})
    {'step_size': 0.1, 'sites': ['w', 'a']}
    >>> describe_value(lambda t: 0.1 / (1 + t)) == describe_value(lambda t: 0.2 / (1 + t))
    False
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return hash_arrays(value)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if depth > _DEPTH:
        return name
    further = functools.partial(describe_value, depth=depth + 1)
    if isinstance(value, dict):
        return {str(key): further(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [further(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, functools.partial):
        return {
            "partial": further(value.func),
            "args": further(value.args),
            "keywords": further(value.keywords),
        }
    if isinstance(value, types.MethodType):
        return {"method": value.__name__, "of": further(value.__self__)}
    if isinstance(value, types.FunctionType):
        return {
            "function": f"{value.__module__}.{value.__qualname__}",
            "code": _hash_function(value, further),
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": name, **{f.name: further(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return getattr(value, "__qualname__", name)
    return {"class": name, **further(vars(value))}


def describe_kernel(kernel) -> dict:
    """Every setting of a kernel, as it would be pickled; the model and what ``init`` derives from it left out."""
    state = {k: v for k, v in kernel.__getstate__().items() if k not in ("_model", "_postprocess_fn")}
    return {"class": type(kernel).__qualname__, **describe_value(state)}


def describe_platform() -> dict:
    """What the same settings need to give the same bits: versions, the device and JAX's number formats."""
    return {
        **{name: version(name) for name in _PACKAGES},
        "device": jax.devices()[0].device_kind,
        "x64": bool(jax.config.jax_enable_x64),
        "matmul_precision": str(jax.config.jax_default_matmul_precision),
    }


def hash_data(data: Dataset) -> str:
    """SHA-256 of everything in a dataset that a result shows."""
    relevant = np.asarray(() if data.relevant is None else data.relevant, int)
    return hash_arrays(data.x, data.y, data.x_test, data.y_test, relevant)


def hash_arrays(*arrays) -> str:
    """SHA-256 of the values, shapes and number formats of `arrays`."""
    digest = hashlib.sha256()
    for array in arrays:
        if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            digest.update(str(jax.random.key_impl(array)).encode())
            array = jax.random.key_data(array)
        array = np.asarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def differences(here: dict, there: dict, prefix: str = "") -> list[str]:
    """Names of the entries in which two descriptions differ; nested ones as ``outer.inner``.

    Examples
    --------
    >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}, "d": 4})
    ['b.c', 'd']
    """
    found = []
    for name in dict.fromkeys([*here, *there]):
        one, other = here.get(name), there.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += differences(one, other, f"{prefix}{name}.")
        elif one != other:
            found.append(prefix + name)
    return found


def _hash_function(function: types.FunctionType, further: Callable) -> str:
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    parts = [_code(function.__code__), further(cells), further(function.__defaults__)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _code(code: types.CodeType) -> list:
    # Constants hold the code of nested functions, whose repr names an address.
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names]
