"""Users' own Python files, from which priors and problems are loaded."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def import_file(file: str, what: str) -> ModuleType:
    """The user's `file` as a module; a ``ValueError`` calls it the file of a `what`.

    It is imported as the module of its name, with its folder on Python's path, so that other
    processes (a sweep's) find its classes again.
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise ValueError(f"{what} file {file!r} does not exist or is not a file; check the path.")
    if not path.stem.isidentifier():
        raise ValueError(
            f"{what} file {file!r} must be named like a Python module, such as my_{what}.py; rename it."
        )
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
        importlib.invalidate_caches()
    found = importlib.util.find_spec(path.stem)
    if found is None or found.origin is None or Path(found.origin).resolve() != path:
        raise ValueError(f"{what} file {file!r} has the name of another Python module; rename it.")
    try:
        return importlib.import_module(path.stem)
    except Exception as error:  # whatever the user's file does wrong
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"{what} file {file!r} cannot be imported: {type(error).__name__}: {reason}."
        ) from error
