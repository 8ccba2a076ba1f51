"""The setter: root, the only process that writes to the driver; one Unix socket, five verbs, a watchdog.

Who calls it: `app.agent` runs it; the agent talks to it, one JSON object a line. It trusts its peer (by uid) to be
alive, not to be right: clocks are clamped to an admin's floor, loosening is rate-limited, and when the agent falls
silent while a safe setting is known, the setter applies it by itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from capstan.agent.ports import Driver, Failed, PodDevices

WATCHDOG_S = 3.0  # DESIGN 2: 3 s of silence, then the safe setting; 4 s lease + 3 s here stay under P1's 10 s
LOOSEN_S = 1.0  # a GPU is loosened at most once a second; tightening never waits
LARGEST = 1e6  # megahertz or watts: above any board, below what a float or the driver's integers could trip over
RETRY_S = 1.0  # between tries of the watchdog on a GPU that refuses
MAX_LINE_BYTES = 4096

_log = logging.getLogger(__name__)
Answer = dict[str, object]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the admin allows: the lowest clock, the uids that may connect (root always may), the agent's silence."""

    min_clock_mhz: float
    peer_uids: frozenset[int]
    watchdog_s: float = WATCHDOG_S


class Setter:
    """State and verbs of the setter; `serve` puts it on a socket."""

    def __init__(self, driver: Driver, devices: PodDevices, limits: Limits, now_s: Callable[[], float]) -> None:
        self._driver = driver
        self._devices = devices
        self._limits = limits
        self._now_s = now_s
        self._clocks: dict[str, float | None] = {}
        self._boards: dict[str, float | None] = {}
        self._set_mhz: dict[str, float] = {}
        self._loosened_s: dict[tuple[str, str], float] = {}
        self._safe: tuple[float, float] | None = None
        self._heard_s = now_s()
        self._alone = False
        self._look_at_s = -math.inf

    # --- verbs -------------------------------------------------------------------------------------

    def answer(self, line: bytes) -> Answer:
        """Return the answer to one line of a peer; never raises."""
        self._heard_s = self._now_s()
        self._alone = False
        try:
            return {"ok": True, **self._do(_object(line))}
        except Failed as failed:
            return {"ok": False, "error": failed.code, "message": str(failed)}

    def _do(self, asked: Answer) -> Answer:
        verb = asked.get("verb")
        if verb == "clock":
            return self._clock(_uuid(asked), _number(asked, "megahertz"), again=asked.get("again") is True)
        if verb == "limit":
            return self._limit(_uuid(asked), _number(asked, "watts"), again=asked.get("again") is True)
        if verb == "reset":
            return self._reset()
        if verb == "devices":
            owners = self._devices.owners()
            return {"devices": {uuid: {"namespace": pod.namespace, "name": pod.name} for uuid, pod in owners.items()}}
        if verb == "safe":
            clock_mhz, limit_w = _number(asked, "megahertz"), _number(asked, "watts")
            self._safe = None if clock_mhz is None or limit_w is None else (clock_mhz, limit_w)
            return {}
        raise Failed("UnknownVerb", f"{verb!r} is none of clock, limit, reset, devices, safe")

    def _clock(self, uuid: str, clock_mhz: float | None, *, again: bool = False) -> Answer:
        wanted = None if clock_mhz is None else max(clock_mhz, self._limits.min_clock_mhz)
        known, before = uuid in self._clocks, self._clocks.get(uuid)
        if known and before == wanted and not again:
            return {"suppressed": True, **self._clock_of(uuid)}
        self._may_loosen("clock", uuid, loosens=known and _looser(wanted, before))
        if wanted is None:
            self._driver.reset_clock(uuid)
            self._set_mhz.pop(uuid, None)
        else:
            self._set_mhz[uuid] = self._driver.cap_clock(uuid, wanted)
        self._clocks[uuid] = wanted
        return self._clock_of(uuid)

    def _clock_of(self, uuid: str) -> Answer:
        """Return the supported clock in force, nothing where there is no cap."""
        return {"megahertz": self._set_mhz[uuid]} if uuid in self._set_mhz else {}

    def _limit(self, uuid: str, limit_w: float | None, *, again: bool = False) -> Answer:
        known, before = uuid in self._boards, self._boards.get(uuid)
        if known and before == limit_w and not again:
            return {"suppressed": True}
        self._may_loosen("limit", uuid, loosens=known and _looser(limit_w, before))
        enforced_w = self._driver.limit_power(uuid, limit_w)
        if limit_w is not None and enforced_w > max(limit_w, 0) + 1:
            raise Failed("NotEnforced", f"asked for {limit_w:.0f} W, the board enforces {enforced_w:.0f} W")
        self._boards[uuid] = limit_w
        return {"watts": enforced_w}

    def _may_loosen(self, verb: str, uuid: str, *, loosens: bool) -> None:
        if not loosens:
            return
        now_s = self._now_s()
        if now_s - self._loosened_s.get((verb, uuid), -math.inf) < LOOSEN_S:
            raise Failed("RateLimited", "a GPU is loosened at most once a second; try again")
        self._loosened_s[verb, uuid] = now_s

    def _reset(self) -> Answer:
        """Lift every cap and limit of ours: the release of a node."""
        for uuid in self._driver.uuids():
            self._driver.reset_clock(uuid)
            self._driver.limit_power(uuid, None)
            self._clocks[uuid], self._boards[uuid] = None, None
        self._set_mhz.clear()
        self._safe = None
        return {}

    # --- watchdog ----------------------------------------------------------------------------------

    def watch(self) -> None:
        """Apply the safe setting once the agent has been silent for too long; called often."""
        now_s = self._now_s()
        silent = now_s - self._heard_s >= self._limits.watchdog_s
        if self._safe is None or self._alone or not silent or now_s < self._look_at_s:
            return
        clock_mhz, limit_w = self._safe
        _log.error("the agent is silent: applying the safe setting of %.0f MHz and %.0f W", clock_mhz, limit_w)
        tightened = [self._tightened(uuid, clock_mhz, limit_w) for uuid in self._driver.uuids()]
        self._alone = all(tightened)
        self._look_at_s = now_s + RETRY_S  # what failed is tried again

    def _tightened(self, uuid: str, clock_mhz: float, limit_w: float) -> bool:
        """Bring one GPU to the safe setting or leave it below; clock and limit each get their try."""
        clock = _done(uuid, lambda: self._clock(uuid, _lower(self._clocks.get(uuid), clock_mhz)))
        limit = _done(uuid, lambda: self._limit(uuid, _lower(self._boards.get(uuid), limit_w)))
        return clock and limit

    # --- socket ------------------------------------------------------------------------------------

    async def serve(self, path: Path) -> asyncio.Server:
        """Listen on a Unix socket; what an earlier run left there is replaced."""
        mask = os.umask(0o117)  # 0660: the folder's group is the agent's; who connects is checked by uid besides
        try:
            return await asyncio.start_unix_server(self._connection, path, limit=MAX_LINE_BYTES)
        finally:
            os.umask(mask)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._known(writer):
                _log.warning("refused a peer with a foreign uid")
                return
            while line := await reader.readline():
                writer.write(json.dumps(self.answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            return  # the peer left, or sent an endless line
        finally:
            writer.close()

    def _known(self, writer: asyncio.StreamWriter) -> bool:
        """Return whether the peer's uid may connect."""
        peer = writer.get_extra_info("socket")
        packed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", packed)
        return uid in self._limits.peer_uids | {0, os.getuid()}


def _done(uuid: str, doing: Callable[[], Answer]) -> bool:
    """Return whether one write of the watchdog went through; log it where it did not."""
    try:
        doing()
    except Failed as failed:
        _log.warning("GPU %s: %s: %s", uuid, failed.code, failed)
        return False
    return True


def _object(line: bytes) -> Answer:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError) as problem:  # 4 KiB hold brackets enough to exhaust the parser's stack
        raise Failed("Malformed", "the line is not JSON") from problem
    if not isinstance(asked, dict):
        raise Failed("Malformed", "a line is one JSON object")
    return asked


def _looser(wanted: float | None, before: float | None) -> bool:
    """Return whether `wanted` allows more than `before` (None: everything)."""
    return before is not None and (wanted is None or wanted > before)


def _lower(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)


def _uuid(asked: Answer) -> str:
    uuid = asked.get("uuid")
    if not isinstance(uuid, str) or not uuid:
        raise Failed("Malformed", "uuid: name the GPU")
    return uuid


def _number(asked: Answer, name: str) -> float | None:
    """Return a number above zero, or None where the field is null or missing."""
    value = asked.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
        raise Failed("Malformed", f"{name}: give a number above 0 and up to {LARGEST:.0f}")
    return float(value)
