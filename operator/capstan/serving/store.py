"""The latest manifest of every object of our own kinds, and the bell that wakes the cycle.

Who calls it: `handlers` write it, `cycle` reads it, on one event loop. Must not know: kopf.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from capstan.serving import manifest
from capstan.serving.manifest import Manifest

# After a restart of the watch, what was not listed again within this time was deleted meanwhile. A list of our
# kinds (hundreds of objects) takes well under a second; ten leaves room for a slow API server.
CONFIRM_S = 10.0


class Kind(StrEnum):
    """Our kinds that serving watches, by plural; it writes only ServingPolicy status."""

    POLICY = "servingpolicies"
    PROFILE = "servingprofiles"
    DOMAIN = "powerdomains"


class Bell:
    """Wakes the cycle; ringing it many times before it is heard is ringing it once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Ask for a cycle soon."""
        self._event.set()

    async def heard(self, timeout_s: float) -> bool:
        """Wait until it rings or `timeout_s` is over; return whether it rang, and reset it."""
        try:
            async with asyncio.timeout(timeout_s):  # Python 3.11's wait_for loses a cancellation that meets the ring
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


@dataclass(frozen=True, slots=True)
class _Entry:
    raw: Manifest
    epoch: int


class Store:
    """Manifests of our kinds by (kind, key). A changed spec, a deletion or a new object rings the bell."""

    def __init__(self, bell: Bell, monotonic_s: Callable[[], float]) -> None:
        self._bell = bell
        self._monotonic_s = monotonic_s
        self._entries: dict[tuple[Kind, str], _Entry] = {}
        self._epoch = 0
        self._confirm_by_s: float | None = None

    def put(self, kind: Kind, raw: Manifest) -> None:
        """Take the newest manifest of an object; our own status writes wake nobody."""
        at = (kind, manifest.key(raw))
        before = self._entries.get(at)
        self._entries[at] = _Entry(raw, self._epoch)
        if before is None or _cause(kind, before.raw) != _cause(kind, raw):
            self._bell.ring()

    def drop(self, kind: Kind, key: str) -> None:
        """Forget a deleted object."""
        if self._entries.pop((kind, key), None) is not None:
            self._bell.ring()

    def restarted(self) -> None:
        """Note that the watch starts anew: whatever it does not list again was deleted while nobody looked."""
        self._epoch += 1
        self._confirm_by_s = self._monotonic_s() + CONFIRM_S

    def all(self, kind: Kind) -> tuple[Manifest, ...]:
        """Return the manifests of a kind, ordered by key."""
        self._drop_unconfirmed()
        return tuple(entry.raw for (of, _), entry in sorted(self._entries.items()) if of is kind)

    def _drop_unconfirmed(self) -> None:
        if self._confirm_by_s is None or self._monotonic_s() < self._confirm_by_s:
            return
        self._confirm_by_s = None
        self._entries = {at: entry for at, entry in self._entries.items() if entry.epoch == self._epoch}


def _cause(kind: Kind, raw: Manifest) -> tuple[object, ...]:
    """Return the part of an object whose change is a reason for a cycle."""
    metadata = manifest.mapping(raw, "metadata")
    cause = (metadata.get("uid"), metadata.get("generation"), bool(metadata.get("deletionTimestamp")))
    # A domain's state caps our policies, and `power` writes it into status.
    return (*cause, manifest.text(raw, "status", "state")) if kind is Kind.DOMAIN else cause
