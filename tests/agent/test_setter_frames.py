"""10,000 hostile lines against the setter, in process and on its socket: no crash, no driver call out of range."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.agent.listen import MAX_PEERS, Socket
from capstan.agent.protocol import MAX_LINE_BYTES
from support.setter import CEILING_MHZ, CEILING_W, FLOOR_MHZ, FLOOR_W, RANGE, Bench

FRAMES = 10_000  # facts/reliability.md 5, node agent
VERBS = ["clock", "limit", "reset", "devices", "safe", "", None, 5, "CLOCK", "clock\x00"]
UUIDS = ["a", "b", "c", "", None, 3, "a" * 300, ["a"]]
NUMBERS = [0, -1, 1, 209, 1410, 1980, 9e99, 10**400, 1e-300, "1410", True, None, [], {}, float("nan"), float("inf")]


def frame(dice: random.Random) -> bytes:
    """Return one line: bytes, cut or spoilt JSON, or an object of odd fields."""
    asked = {
        "verb": dice.choice(VERBS), "uuid": dice.choice(UUIDS), "megahertz": dice.choice(NUMBERS),
        "watts": dice.choice(NUMBERS), "again": dice.choice([True, False, None, 1]),
    }  # fmt: skip
    whole = json.dumps({name: value for name, value in asked.items() if dice.random() < 0.9}).encode()
    kind = dice.randrange(6)
    if kind == 0:
        return dice.randbytes(dice.randrange(200)).replace(b"\n", b" ")
    if kind == 1:
        return whole[: dice.randrange(len(whole) + 1)]
    if kind == 2:
        at = dice.randrange(len(whole))
        return whole[:at] + bytes([dice.randrange(128)]) + whole[at + 1 :]
    return whole


def assert_within(bench: Bench) -> None:
    """No driver call was ever outside the admin's range, or on a GPU that is not there."""
    for kind, uuid, value in bench.driver.writes:
        low, high = (FLOOR_MHZ, CEILING_MHZ) if kind == "clock" else (FLOOR_W, CEILING_W)
        assert uuid in ("a", "b")
        assert low <= value <= high if value is not None else kind == "limit", (kind, value)
    assert all(limit_w <= CEILING_W for limit_w in bench.driver.enforced_w), "on release neither"


async def test_ten_thousand_frames_crash_nothing_and_stay_in_range() -> None:
    bench, dice, answered = Bench(RANGE), random.Random(6), {True: 0, False: 0}  # noqa: S311 - a fuzzer
    for _ in range(FRAMES):
        bench.now_s += 0.3
        answer = await bench.setter.answer(frame(dice))
        assert answer["ok"] is True or {"error", "message"} <= set(answer)
        json.dumps(answer)
        answered[answer["ok"] is True] += 1
    assert min(answered.values()) > FRAMES / 20, "a fuzzer that only ever meets one side tests nothing"
    assert len(bench.driver.writes) > FRAMES / 50
    assert_within(bench)


FIELDS = st.none() | st.integers() | st.floats() | st.sampled_from(["", "x"]) | st.integers(100, 2000) | st.booleans()


@given(
    st.lists(
        st.fixed_dictionaries(
            {"verb": st.sampled_from(["clock", "limit", "safe", "reset"])},
            optional={
                "uuid": st.sampled_from(["a", "b", "c"]), "megahertz": FIELDS, "watts": FIELDS, "again": st.booleans(),
            },
        ),
        max_size=12,
    )
)  # fmt: skip
@settings(max_examples=60)
def test_no_order_of_lines_and_silences_leaves_the_range(lines: list[dict[str, object]]) -> None:
    """The watchdog too: a safe setting out of the admin's range is held within it."""

    async def play() -> None:
        for line in lines:
            await bench.ask(**line)
        await bench.silence(4)

    bench = Bench(RANGE)
    asyncio.run(play())
    assert_within(bench)


@pytest.mark.parametrize(
    "line",
    [b"[" * 4000, b'{"verb":' * 500, b'{"verb":"clock","uuid":"a","megahertz":' + b"9" * 400 + b"}", b"\xff\xfe", b""],
    ids=["brackets", "nested objects", "a number of 400 digits", "no UTF-8", "nothing"],
)
async def test_a_line_that_breaks_parsers_is_malformed(line: bytes) -> None:
    assert (await Bench().setter.answer(line))["error"] == "Malformed"


async def talk(path: Path, data: bytes) -> bytes:
    """Send bytes, read what comes."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def listening(bench: Bench, folder: Path) -> tuple[asyncio.Server, Path]:
    """Serve a bench."""
    path = folder / "s.sock"
    return await Socket(bench.setter.answer, frozenset()).serve(path), path


async def test_an_oversized_frame_ends_its_connection_and_no_other(tmp_path: Path) -> None:
    bench = Bench()
    server, path = await listening(bench, tmp_path)
    assert await talk(path, b"x" * (2 * MAX_LINE_BYTES + 10) + b"\n") == b""
    asked = b'{"verb":"clock","uuid":"a","megahertz":1410}\n'
    assert json.loads(await talk(path, asked)) == {"ok": True, "megahertz": 1410}
    server.close()


async def test_a_crowd_of_peers_is_sent_away(tmp_path: Path) -> None:
    server, path = await listening(Bench(), tmp_path)
    held = [await asyncio.open_unix_connection(path) for _ in range(MAX_PEERS)]
    await asyncio.sleep(0.05)
    assert await talk(path, b'{"verb":"devices"}\n') == b""
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.05)
    assert json.loads(await talk(path, b'{"verb":"devices"}\n'))["ok"] is True
    server.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a foreign uid")
async def test_a_foreign_uid_gets_no_answer_and_reaches_no_driver(tmp_path: Path) -> None:
    bench = Bench()
    server, path = await listening(bench, tmp_path)
    path.chmod(0o666)  # so that the file's own rights are not what refuses it
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)  # pytest's own are root's alone, one level more with xdist
    code = f"""
import os, socket
os.setuid(65533)
peer = socket.socket(socket.AF_UNIX); peer.settimeout(5); peer.connect({str(path)!r})
try:
    peer.sendall(b'{{"verb":"clock","uuid":"a","megahertz":1410}}\\n')
    print(peer.recv(100))
except ConnectionError:
    print(b"")
"""
    run = asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    done: subprocess.CompletedProcess[str] = await run
    assert done.stdout.strip() == "b''"
    assert bench.driver.writes == []
    server.close()


async def held_up(doing: Awaitable[object]) -> bool:
    """Return whether something takes longer than a moment."""
    try:
        async with asyncio.timeout(0.2):
            await doing
    except TimeoutError:
        return True
    return False


async def test_a_peer_that_says_half_a_line_holds_up_nobody(tmp_path: Path) -> None:
    server, path = await listening(Bench(), tmp_path)
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(path))
        slow.sendall(b'{"verb":')
        assert not await held_up(talk(path, b'{"verb":"devices"}\n'))
    server.close()
