"""Applies a document when there is a reason to, and remembers what it applied and what was refused.

Who calls it: `actuate`. Three reasons: this process has not applied the object yet (an idempotent write once per
start), the document changed, or somebody took one of our fields. A refused document is tried again after a pause or
when it changes, not every cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from capstan.serving import cluster, manifest, names, ports
from capstan.serving.manifest import Manifest

LAG_S = 5.0  # a cache may be this far behind our own write; until then it is no witness against it
PATIENCE_DOUBLINGS = 6  # somebody who keeps taking a field of ours gets it back every 5 s, 10 s … 320 s
RETRY_S = 60.0  # a refused document may pass later (a quota was raised, a webhook is back)


@dataclass(frozen=True, slots=True)
class _Applied:
    content: str
    fields_hash: str
    at_s: float
    result: Manifest
    fights: int = 0

    @property
    def patience_s(self) -> float:
        """Return how long to leave the object alone: a rival controller must not make us write without end."""
        return LAG_S * (1 << min(self.fights, PATIENCE_DOUBLINGS))


@dataclass(frozen=True, slots=True)
class _Refused:
    content: str
    at_s: float
    error: ports.Refused


class Applier:
    """Idempotent server-side apply. `now_s` is the monotonic clock of the process."""

    def __init__(self, writer: ports.Writer, now_s: Callable[[], float]) -> None:
        self._writer = writer
        self._now_s = now_s
        self._applied: dict[str, _Applied] = {}
        self._refused: dict[str, _Refused] = {}

    async def ensure(self, document: Manifest, *, live_hash: str | None, prove: bool = False) -> Manifest | None:
        """Apply `document` if needed; return the object if it was written now, else None.

        Args:
            document: What we want, with its content hash in an annotation.
            live_hash: `fields_hash` of the cached object; None where the cache has none.
            prove: First ask the server by a dry run, so that a bad template leaves nothing behind.

        Raises:
            Refused: The server's answer, now or at most a minute ago.
        """
        key = f"{manifest.text(document, 'kind')}/{manifest.key(document)}"
        content = manifest.strings(document, "metadata", "annotations").get(names.HASH_ANNOTATION, "")
        if not self._needed(key, content, live_hash):
            return None
        self._still_refused(key, content)
        try:
            if prove:
                await self._writer.apply(document, dry_run=True)
            result = await self._writer.apply(document)
        except ports.Refused as refused:
            if refused.refusal in (ports.Refusal.REJECTED, ports.Refusal.DENIED):
                self._refused[key] = _Refused(content, self._now_s(), refused)
            raise
        self._refused.pop(key, None)
        fights = self._fights(key, content)
        self._applied[key] = _Applied(content, cluster.fields_hash(result), self._now_s(), result, fights)
        return result

    def forget(self, kept_owner_uids: frozenset[str]) -> None:
        """Forget objects whose owner is gone, so that memory is bounded by what lives."""
        self._refused = {k: r for k, r in self._refused.items() if self._now_s() - r.at_s < RETRY_S}
        gone = [key for key, a in self._applied.items() if _owner_uid(a.result) not in kept_owner_uids]
        for key in gone:
            del self._applied[key]

    def _needed(self, key: str, content: str, live_hash: str | None) -> bool:
        before = self._applied.get(key)
        if before is None or before.content != content:
            return True
        if self._now_s() - before.at_s < before.patience_s:
            return False
        return live_hash is None or live_hash != before.fields_hash

    def _fights(self, key: str, content: str) -> int:
        """Return how often in a row the same content had to be applied again soon after the last time."""
        before = self._applied.get(key)
        if before is None or before.content != content or self._now_s() - before.at_s > 2 * before.patience_s:
            return 0
        return before.fights + 1

    def _still_refused(self, key: str, content: str) -> None:
        refused = self._refused.get(key)
        if refused and refused.content == content and self._now_s() - refused.at_s < RETRY_S:
            raise ports.Refused(refused.error.refusal, str(refused.error), resting=True)


def _owner_uid(raw: Manifest) -> str:
    return next((manifest.text(o, "uid") for o in manifest.items(raw, "metadata", "ownerReferences")), "")
