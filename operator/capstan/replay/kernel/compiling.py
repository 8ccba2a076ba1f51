"""Compiles modules of plain functions: the model's own formulas and the kernel's rules, from one source.

Who calls it: `kernel.entries`. Must not know: what the functions do. numba is imported on the first call only.

Every listed module is cloned: each function that it defines is rebuilt over globals in which the functions and
modules listed before it are the compiled ones. So the sources stay plain Python, run as they are where nothing is
compiled (the oracle that must be equal to the last bit), and no formula is written twice.

numba's cache sees an edit of one file only, so its folder's name holds a hash of every file that is compiled. Where
nothing can be written the kernel is compiled in each process (`CAPSTAN_KERNEL_CACHE` names another folder).
"""

from __future__ import annotations

import hashlib
import os
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

Function = Callable[..., object]
BORROWED = "borrowed"  # the one function that has another form where it is compiled


class _Config(Protocol):
    CACHE_DIR: str


class _Type(Protocol):
    def __call__(self, *args: object) -> object: ...


class _Array(Protocol):
    """An array's struct in LLVM, as numba builds it; `meminfo` and `parent` are its owners."""

    def _getvalue(self) -> object: ...


class _Signature(Protocol):
    args: Sequence[object]


class _Numba(Protocol):
    config: _Config

    def njit(self, *, cache: bool) -> Callable[[Function], Function]: ...


def compiled(modules: Sequence[types.ModuleType], entries: Sequence[str]) -> dict[str, Function]:
    """Return functions of the last module, compiled with all that they call.

    Args:
        modules: What is compiled, callees before callers.
        entries: Names in the last one; these are kept in the cache, with their callees inside.
    """
    import numba  # here, not above: 200 MB that only a replay needs

    compiler = cast("_Numba", numba)
    folder = cache_folder(modules)
    before = compiler.config.CACHE_DIR
    clones: dict[str, types.ModuleType] = {}
    try:
        compiler.config.CACHE_DIR = str(folder or "")
        for module in modules:
            cached = frozenset(entries) if module is modules[-1] and folder is not None else frozenset()
            clones[module.__name__] = _clone(module, clones, compiler, cached)
    finally:
        compiler.config.CACHE_DIR = before
    last = vars(clones[modules[-1].__name__])
    return {name: cast("Function", last[name]) for name in entries}


def cache_folder(modules: Sequence[types.ModuleType]) -> Path | None:
    """Return the folder of this version of the sources; None, with a warning, where nothing can be written."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(Path(str(module.__file__)).read_bytes())
    named = os.environ.get("CAPSTAN_KERNEL_CACHE") or os.environ.get("NUMBA_CACHE_DIR")
    base = Path(named) if named else _user_cache() / "capstan"
    folder = base / f"kernel-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        warnings.warn(f"the compiled kernel cannot be kept ({error}); it compiles anew each time", stacklevel=2)
        return None
    return folder


def _user_cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111 - never raises


def _clone(
    module: types.ModuleType, clones: dict[str, types.ModuleType], compiler: _Numba, cached: frozenset[str]
) -> types.ModuleType:
    """Return a module whose functions are compiled and see the compiled ones of the modules before it."""
    clone = types.ModuleType(module.__name__)
    names = vars(clone)
    names.update(vars(module))
    for name, value in vars(module).items():
        if isinstance(value, types.ModuleType) and value.__name__ in clones:
            names[name] = clones[value.__name__]
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
            rebuilt = types.FunctionType(value.__code__, names, name)
            names[name] = _borrowed() if name == BORROWED else compiler.njit(cache=name in cached)(rebuilt)
    return clone


def _borrowed() -> Function:
    """Return the compiled form of `play.borrowed`: the same table without an owner, so nobody counts references.

    Counting costs the kernel a third of its speed (atomic operations, in every helper that is handed a table). The
    caller of a compiled entry holds the tables for as long as it runs.
    """
    from numba.core import cgutils
    from numba.extending import intrinsic
    from numba.np import arrayobj

    make_array, null = cast("Function", arrayobj.make_array), cast("Function", cgutils.get_null_value)

    def borrowed(_typing: object, table: _Type) -> object:
        def code(context: object, builder: object, signature: _Signature, args: Sequence[object]) -> object:
            make = cast("Callable[..., _Array]", make_array(signature.args[0]))
            array = make(context, builder, args[0])
            for name in ("meminfo", "parent"):
                setattr(array, name, null(getattr(array, name).type))
            return array._getvalue()

        return table(table), code

    return cast("Function", intrinsic(borrowed))
