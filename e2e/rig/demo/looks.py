"""One look at the API server per second: plans, levels, caps, replicas, as the demo shows and records them.

What is shown is what the objects say (status, spec); the true watts are the simulator's and come in `ticks`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import httpx

from capstan.model.reasons import Reason

Json = Mapping[str, object]

GROUP = "/apis/capstan.dev/v1alpha1"
POLICY_LABEL = "capstan.dev/policy"
TP_LABEL = "capstan.dev/tensor-parallel"
PATHS = {
    "policies": f"{GROUP}/servingpolicies",
    "domains": f"{GROUP}/powerdomains",
    "caps": f"{GROUP}/nodecaps",
    "deployments": "/apis/apps/v1/deployments",
}


@dataclass(frozen=True, slots=True)
class PolicyLook:
    """One policy: what is wanted, planned and said of it. None where its status does not say."""

    policy: str
    desired: int
    tp: int
    reason: str
    plan: str
    slo: str
    plan_cap_mhz: float | None = None
    expected_w: float | None = None


@dataclass(frozen=True, slots=True)
class DomainLook:
    """One power domain. `low_cap_mhz` and `high_cap_mhz` are the lowest caps of its class on any node."""

    domain: str
    budget_w: float
    level: str
    low_cap_mhz: float | None = None
    high_cap_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """Everything at one moment, `unix_s`."""

    unix_s: float
    policies: tuple[PolicyLook, ...] = ()
    domains: tuple[DomainLook, ...] = ()

    def line(self) -> str:
        """Return the look as one JSON line."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"


def take(client: httpx.Client, unix_s: float) -> Look:
    """Ask the API server.

    Raises:
        httpx.HTTPError: It did not answer; the caller shows the last look instead.
    """
    lists = {name: _items(client, path) for name, path in PATHS.items()}
    return of(unix_s, **lists)


def of(
    unix_s: float, policies: Iterable[Json], domains: Iterable[Json], caps: Iterable[Json], deployments: Iterable[Json]
) -> Look:
    """Return the look that lists of objects give."""
    workloads = [d for d in deployments if POLICY_LABEL in _at(d, "metadata", "labels")]
    known = {_key(policy): policy for policy in policies}
    keys = sorted(known.keys() | {_owner(workload) for workload in workloads})
    low, high = (_lowest(caps_list, field) for caps_list, field in _classes(list(caps)))
    return Look(
        unix_s,
        tuple(_policy(key, known.get(key, {}), [w for w in workloads if _owner(w) == key]) for key in keys),
        tuple(_domain(domain, low, high) for domain in domains),
    )


def _policy(key: str, policy: Json, workloads: Sequence[Json]) -> PolicyLook:
    status = _at(policy, "status")
    plan = _at(status, "plan")
    pools = cast(Sequence[Json], plan.get("pools") or ({},))
    expected = _at(status, "expected").get("powerWatts")
    reasons = [str(plan.get(field) or "") for field in ("replicasReason", "clockReason")]
    return PolicyLook(
        policy=key,
        desired=sum(int(str(_at(w, "spec").get("replicas", 1))) for w in workloads),
        tp=max((int(str(_at(w, "metadata", "labels").get(TP_LABEL, 1))) for w in workloads), default=1),
        reason=_telling(reasons) if plan else str(Reason.KNOB_OFF),
        plan=str(plan.get("summary", "")),
        slo=_condition(status, "SLOMet"),
        plan_cap_mhz=_number(pools[0].get("clockMegahertz")),
        expected_w=_number(expected),
    )


def _telling(reasons: Sequence[str]) -> str:
    """Return the reason that tells more: that of the replicas, unless nothing changed there."""
    quiet = {"", str(Reason.NO_CHANGE_NEEDED), str(Reason.COOLING_DOWN)}
    return next((reason for reason in reasons if reason not in quiet), reasons[0] or str(Reason.UNKNOWN))


def _domain(domain: Json, low_mhz: float | None, high_mhz: float | None) -> DomainLook:
    level = str(_at(domain, "status").get("state") or "Disarmed")
    budget_w = float(str(_at(domain, "spec")["budgetWatts"]))
    return DomainLook(str(_at(domain, "metadata")["name"]), budget_w, level, low_mhz, high_mhz)


def _classes(caps: Sequence[Json]) -> tuple[tuple[list[Json], str], tuple[list[Json], str]]:
    classes = [_at(cap, "spec", "power", "caps") for cap in caps]
    return (classes, "lowMegahertz"), (classes, "highMegahertz")


def _lowest(caps: Iterable[Json], field: str) -> float | None:
    known = [number for cap in caps if (number := _number(cap.get(field))) is not None]
    return min(known, default=None)


def _condition(status: Json, kind: str) -> str:
    conditions = cast(Sequence[Json], status.get("conditions") or ())
    return next((str(c.get("reason", "")) for c in conditions if c.get("type") == kind), "")


def _owner(workload: Json) -> str:
    metadata = _at(workload, "metadata")
    return f"{metadata['namespace']}/{_at(metadata, 'labels')[POLICY_LABEL]}"


def _key(policy: Json) -> str:
    metadata = _at(policy, "metadata")
    return f"{metadata['namespace']}/{metadata['name']}"


def _at(value: Json, *path: str) -> Json:
    for key in path:
        value = cast(Json, value.get(key) or {})
    return value


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))


def _items(client: httpx.Client, path: str) -> list[Json]:
    response = client.get(path)
    response.raise_for_status()
    return list(response.json()["items"])
