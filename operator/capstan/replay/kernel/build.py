"""The kernel's functions as machine code, or as the Python that they are.

The sources are plain Python. `compiled` makes a second copy of each module with every function compiled by numba and
seeing only its compiled fellows; the formulas of `capstan.model` are compiled as they stand. Nothing is written twice.

numba's cache does not see an edit in another file, so the folder's name holds a hash of all sources that are compiled,
and of numba itself. Where no folder can be written the cache is left out: the first call then takes seconds each time.
"""

from __future__ import annotations

import hashlib
import os
import sys
import types
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import cast

from capstan.model import latency, power
from capstan.replay.kernel import events, leap, sequences

SOURCES = (latency, power, leap, sequences, events)
"""In the order of their imports: each sees only those before it."""

Advance = Callable[..., None]


def plain() -> Advance:
    """Return the kernel as Python runs it: slow, and the oracle of the compiled one."""
    return events.advance


@lru_cache(maxsize=1)
def compiled() -> Advance:
    """Return the compiled kernel; the import of numba and a cached load take half a second, a first build some more.

    Raises:
        ModuleNotFoundError: numba is not installed (the extra `replay` has it).
    """
    import numba

    folder = _cache_folder(str(numba.__version__))
    if folder is not None:
        numba.config.CACHE_DIR = str(folder)
    decorate = numba.njit(cache=folder is not None, nogil=True, error_model="numpy")
    copies: dict[str, types.ModuleType] = {}
    for source in SOURCES:
        copies[source.__name__] = _copy(source, copies, decorate)
    return cast(Advance, copies[events.__name__].__dict__["advance"])


def _copy(
    source: types.ModuleType, copies: dict[str, types.ModuleType], decorate: Callable[[object], object]
) -> types.ModuleType:
    """Return a module like `source` whose functions are compiled and call compiled ones."""
    copy = types.ModuleType(source.__name__)
    for name, value in vars(source).items():
        if isinstance(value, types.ModuleType):
            copy.__dict__[name] = copies.get(value.__name__, value)
        elif isinstance(value, types.FunctionType) and value.__module__ == source.__name__:
            clone = types.FunctionType(value.__code__, copy.__dict__, name, value.__defaults__, value.__closure__)
            clone.__module__ = source.__name__
            clone.__qualname__ = value.__qualname__
            copy.__dict__[name] = decorate(clone)
        elif not name.startswith("__"):
            copy.__dict__[name] = value
    copy.__dict__["__name__"] = source.__name__
    return copy


def _cache_folder(numba_version: str) -> Path | None:
    """Return a folder for this very source, or None where none can be written."""
    digest = hashlib.sha256(f"{numba_version} {sys.version}".encode())
    for source in SOURCES:
        digest.update(Path(str(source.__file__)).read_bytes())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "capstan" / "kernel" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
