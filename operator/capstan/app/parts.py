"""Parts of a process, side by side: until somebody asks the process to stop, or until one of them ends.

Who calls it: the commands that stay (operator, power, agent, setter). Must not know: what the parts do.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

STOP_S = 2.0
"""Parts that were told to end have so long: within the 30 s that a kubelet gives a pod, with room for what follows."""


async def first(*parts: Coroutine[Any, Any, object]) -> None:
    """Run until the first part ends, then end the others; what it raised is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a bug raises here, and the process says so and exits
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_S)


async def until_stopped(*parts: Coroutine[Any, Any, object]) -> int:
    """Run until SIGTERM or SIGINT and return 0; a part that ends by itself ends the process with 1."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await first(stop.wait(), *parts)
    return 0 if stop.is_set() else 1
