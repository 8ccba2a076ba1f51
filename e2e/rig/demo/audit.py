"""The API server's audit log, read for figures: writes while nothing changes, and how soon a change is acted on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

OURS = "system:serviceaccount:capstan-system:"
PROBE = "admin"  # whose spec changes are timed: the demo's own kubectl


@dataclass(frozen=True, slots=True)
class Write:
    """One request that writes, as the server saw it. Times are unix seconds."""

    user: str
    verb: str
    resource: str
    key: str
    received_s: float
    done_s: float
    ok: bool

    @property
    def ours(self) -> bool:
        """Whether a Capstan process sent it."""
        return self.user.startswith(OURS)


def read(lines: Iterable[str]) -> list[Write]:
    """Return the finished writes of an audit log, in its order; a last line still being written is left out."""
    events = (json.loads(line) for line in lines if line.endswith("\n"))
    return [_write(event) for event in events if event.get("stage") == "ResponseComplete" and "objectRef" in event]


def _write(event: dict[str, object]) -> Write:
    at: dict[str, str] = event["objectRef"]  # type: ignore[assignment]  # audit.k8s.io/v1
    user: dict[str, str] = event["user"]  # type: ignore[assignment]  # see above
    status: dict[str, object] = event.get("responseStatus") or {}  # type: ignore[assignment]  # see above
    subresource = f"/{at['subresource']}" if at.get("subresource") else ""
    return Write(
        user=user["username"],
        verb=str(event["verb"]),
        resource=f"{at.get('resource', '')}{subresource}",
        key="/".join(part for part in (at.get("namespace"), at.get("name")) if part),
        received_s=_unix_s(event["requestReceivedTimestamp"]),
        done_s=_unix_s(event["stageTimestamp"]),
        ok=int(str(status.get("code", 0))) < 400,
    )


def _unix_s(text: object) -> float:
    return datetime.fromisoformat(str(text)).timestamp()


def quiet_writes(writes: Iterable[Write], since_s: float, until_s: float) -> list[Write]:
    """Return what Capstan wrote in a span, leader Leases apart (P7: nothing, while nothing changes)."""
    return [w for w in writes if w.ours and since_s <= w.received_s < until_s and w.resource != "leases"]


def last_write_s(writes: Iterable[Write]) -> float | None:
    """Return when Capstan last wrote anything but a Lease; None before its first write."""
    return max((w.done_s for w in writes if w.ours and w.resource != "leases"), default=None)


def first_plan_s(writes: Iterable[Write]) -> float | None:
    """Return when the first plan was in force: the operator made or scaled a workload, or planned a clock."""
    applied = {"deployments", "deployments/scale", "nodecaps"}
    return min((w.done_s for w in writes if w.ours and w.ok and w.resource in applied), default=None)


def scale_writes(writes: Iterable[Write], policy: str) -> list[Write]:
    """Return the operator's writes of a policy's replicas; its workloads are named `<policy>-tp<k>`."""
    return [w for w in writes if w.ours and w.ok and w.resource == "deployments/scale" and _owns(policy, w.key)]


def _owns(policy: str, workload: str) -> bool:
    name, separator, degree = workload.rpartition("-tp")
    return bool(separator) and degree.isdigit() and name == policy


def spec_to_scale_s(writes: list[Write], policy: str, *, since_s: float) -> float | None:
    """Return how long after our first accepted spec change since `since_s` its scale write was received; None without.

    A write that was received before the answer was out (the watch is faster than the reply) has taken no time.
    """
    changes = [w for w in writes if w.user == PROBE and w.ok and (w.resource, w.key) == ("servingpolicies", policy)]
    change = next((w for w in changes if w.received_s >= since_s), None)
    if change is None:
        return None
    after = [w.received_s for w in scale_writes(writes, policy) if w.received_s >= change.received_s]
    return max(min(after) - change.done_s, 0.0) if after else None
