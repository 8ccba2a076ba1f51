"""Parts of a process: a stop is a good end, a part that ends is not, and what it raised is seen."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from capstan.app import parts


async def _for_ever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("told to end")


async def _asks_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.Event().wait()


async def _ends() -> None:
    return


async def _fails() -> None:
    raise ValueError("a bug")


def test_sigterm_ends_every_part_and_the_process_well() -> None:
    ended: list[str] = []
    assert asyncio.run(parts.until_stopped(_for_ever(ended), _asks_to_stop())) == 0
    assert ended == ["told to end"]


def test_a_part_that_ends_by_itself_ends_the_process_with_an_error() -> None:
    ended: list[str] = []
    assert asyncio.run(parts.until_stopped(_for_ever(ended), _ends())) == 1
    assert ended == ["told to end"]


def test_what_a_part_raises_is_raised_after_the_others_have_ended() -> None:
    ended: list[str] = []
    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(parts.first(_for_ever(ended), _fails()))
    assert ended == ["told to end"]


def test_a_part_that_will_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "STOP_S", 0.05)
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async def run() -> None:
        await asyncio.wait_for(parts.first(stubborn(), _ends()), 2)
        let_go.set()

    asyncio.run(run())
