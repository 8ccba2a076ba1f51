"""One thread per GPU for driver calls, each with a deadline: a call that hangs holds up its own GPU and no other.

Who calls it: `setter` and `sampling`. A call cannot be ended from outside, so a GPU whose last call has not come back
is refused at once (`HUNG`) until it does. No help against a driver that hangs under a lock of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from capstan.agent.ports import HUNG, Failed

T = TypeVar("T")

DEADLINE_S = 1.0  # a call takes some 6 ms and a clock switch up to 0.5 s (facts/polca.md 3.3); the watchdog has 3 s


class Lanes:
    """Runs each call on the thread of its key."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._overdue: dict[str, Callable[[], bool]] = {}

    async def run(self, key: str, doing: Callable[[], T]) -> T:
        """Return what `doing` returns, raise what it raises.

        Raises:
            Failed: `HUNG`: no answer in time, or an earlier call on this key has not come back. It may still happen.
        """
        overdue = self._overdue.get(key)
        if overdue is not None and not overdue():
            raise Failed(HUNG, f"{key}: an earlier driver call has not come back")
        call = self._thread(key).submit(doing)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(call)
        except TimeoutError as slow:
            if call.running():  # else it never began, and was cancelled
                self._overdue[key] = call.done
            raise Failed(HUNG, f"{key}: the driver has not answered within {self._deadline_s:g} s") from slow

    def _thread(self, key: str) -> ThreadPoolExecutor:
        if key not in self._threads:
            self._threads[key] = ThreadPoolExecutor(1, thread_name_prefix=key)
        return self._threads[key]
