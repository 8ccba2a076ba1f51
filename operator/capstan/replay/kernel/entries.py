"""What is compiled, and the two functions of it that a world calls.

Who calls it: `kernel.world`, and the tests that hold the compiled ones against the plain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from capstan.model import latency, power
from capstan.replay.kernel import compiling, handover, heap, joules, leaps, play, routes, steps, urgency

MODULES = (latency, power, heap, handover, joules, leaps, urgency, steps, routes, play)  # callees before callers
ENTRIES = ("advance", "cap")  # the others are rare enough to be played uncompiled

Functions = Mapping[str, Callable[..., object]]


@functools.cache
def functions(*, compile_them: bool) -> Functions:
    """Return the kernel's entries, compiled or as plain Python: the same source, the same bits."""
    if compile_them:
        return compiling.compiled(MODULES, ENTRIES)
    return {name: getattr(play, name) for name in ENTRIES}
