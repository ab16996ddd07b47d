"""What determines the draws of a run, so that it is only continued, or found again, as itself."""

import functools
import hashlib
import inspect
import json
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib.metadata import version

import jax
import numpy as np

_PACKAGES = ("mean-field-zoo", "jax", "jaxlib", "numpyro")
# Settings nest a few levels; an object graph that goes deeper is not one.
_DEPTH = 12


def fingerprint(*parts) -> str:
    """SHA-256 of `parts` as :func:`describe_value` spells them out: the same in every process.

    Examples
    --------
    >>> from models import ARD, TwoLayerNetwork
    >>> one, other = (TwoLayerNetwork(6, 8, kappa) for kappa in (0.1, 0.2))
    >>> fingerprint(one, {"seed": 1}) == fingerprint(TwoLayerNetwork(6, 8, 0.1), {"seed": 1})
    True
    >>> fingerprint(one, {"seed": 1}) == fingerprint(other, {"seed": 1})
    False
    """
    return _digest(json.dumps(describe_value(parts), sort_keys=True))


def describe_value(value, depth: int = 0):
    """`value` as JSON-able values that say all that its behaviour depends on.

    Arrays and keys go by their digest; an object by its class, the digest of the class's source
    text (those that it inherits from included) and its fields; a function by its name, source text,
    defaults and the values that it closes over. An edited prior or schedule is thus another one.
    ``ValueError`` for what no other process could recognise, such as a function without source.

    Examples
    --------
    >>> describe_value({"step_size": 0.1, "sites": ("w", "a")})
    {'step_size': 0.1, 'sites': ['w', 'a']}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return hash_arrays(value)
    if depth > _DEPTH:
        raise _unrecognisable(value)
    further = functools.partial(describe_value, depth=depth + 1)
    if isinstance(value, dict):
        return {str(key): further(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(further(item), sort_keys=True) for item in value)
    if isinstance(value, Sequence):
        return [further(item) for item in value]
    if isinstance(value, functools.partial):
        return {"partial": further(value.func), "args": further(value.args), **further(value.keywords)}
    if isinstance(value, types.MethodType):
        return {"method": value.__name__, "of": further(value.__self__)}
    if isinstance(value, type):
        return {"class": _name(value), "source": _source(*value.__mro__)}
    if isinstance(value, types.FunctionType):
        return {"function": _name(value), "source": _function_source(value), **further(_inputs(value))}
    if callable(value) and hasattr(value, "__wrapped__"):  # of jax.jit and the like
        return further(value.__wrapped__)
    state = value.__getstate__()
    if is_dataclass(value):
        state = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(state, dict):
        return {**further(type(value)), **further(state)}
    if " at 0x" in repr(value):
        raise _unrecognisable(value)
    return repr(value)


def describe_kernel(kernel) -> dict:
    """Every setting of a kernel; the model and what ``init`` derives from it left out."""
    state = {k: v for k, v in kernel.__getstate__().items() if k not in ("_model", "_postprocess_fn")}
    return {**describe_value(type(kernel)), **describe_value(state)}


def describe_platform() -> dict:
    """What the same bits need beside the same settings: versions, device, number formats."""
    return {
        **{name: version(name) for name in _PACKAGES},
        "device": jax.devices()[0].device_kind,
        "x64": bool(jax.config.jax_enable_x64),
        "matmul_precision": str(jax.config.jax_default_matmul_precision),
    }


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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _name(thing) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


@functools.cache
def _source(*things) -> str | None:
    """Digest of the source texts of classes or code; None where none of them has any."""
    texts = []
    for thing in things:
        with suppress(OSError, TypeError):  # built in, or typed at a prompt
            texts.append(inspect.getsource(thing))
    return _digest("\n".join(texts)) if texts else None


def _function_source(function: types.FunctionType) -> str:
    # Of a decorated function its own code: what it wraps is in its closure.
    source = _source(function.__code__)
    if source is None:
        raise _unrecognisable(function)
    # The text of a lambda is the whole line, on which there may be others, in other columns.
    columns = [start for _, _, start, _ in function.__code__.co_positions() if start]
    return source + (str(min(columns)) if function.__name__ == "<lambda>" else "")


def _inputs(function: types.FunctionType) -> dict:
    """What a function's result depends on beside its arguments."""
    names, plain = inspect.getclosurevars(function), (bool, int, float, str, np.ndarray, jax.Array)
    constants = {k: v for k, v in names.globals.items() if isinstance(v, plain)}
    defaults = {"defaults": function.__defaults__, "keyword_defaults": function.__kwdefaults__}
    return {**constants, **names.nonlocals, **defaults}


def _unrecognisable(value) -> ValueError:
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return ValueError(
        f"{name} cannot be recognised in another process, so that a run with it could not be resumed; define it in a "
        "file, as a function or dataclass of plain values, or run without a folder."
    )
