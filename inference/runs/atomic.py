"""Files that are whole or absent, whenever the process or the machine stops."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

TEMPORARY = ".part-"
"""Prefix of files that are still being written."""


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary)`` in the folder of `path`, then rename the result to `path`.

    A reader sees the old file or the new one, never half of one, even after a power cut; after an
    ``OSError`` the temporary file is gone.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "note.txt"
    ...     replace_file(path, lambda temporary: temporary.write_text("whole"))
    ...     path.read_text()
    'whole'
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        _to_disk(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
        _to_disk(path.parent)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def reason(error: OSError) -> str:
    """What the system says went wrong, in a few words."""
    # HDF5 wraps the system's error in a long message of its own.
    if os.strerror(errno.ENOSPC) in str(error):
        return os.strerror(errno.ENOSPC)
    return error.strerror or " ".join(str(error).split())


def _to_disk(path: Path) -> None:
    # Without this a rename may reach the disk before the content that it names.
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
