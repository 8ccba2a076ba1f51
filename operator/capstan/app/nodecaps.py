"""Our NodeCap and a lease call, read: strict, small, and without pydantic, which alone is a tenth of an agent's 40 MB.

Who calls it: `app.agent`. The API server has checked a NodeCap against the CRD of `api.nodecap`; this reads the same
fields in the same ranges (a test compares the two on thousands of objects) and refuses what it does not know: a field
that is passed over could be a cap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from capstan.adapters import errors
from capstan.adapters.agents import number
from capstan.agent.lease import Granted, Renewal
from capstan.agent.ports import PlannedClock, Pod
from capstan.powercap.domains import ClassCaps, SafeSetting

LARGEST_MHZ = 10_000  # these: the ranges of api.fields and api.nodecap
LARGEST_W = 1_000_000_000
LARGEST_COUNT = 2**53 - 1
LONGEST_LEASE_S = 60
PODS = 64
LEDGERS = 4
LONGEST_NAME = 253

Parsed = tuple[Granted | None, tuple[PlannedClock, ...] | None]


@dataclass(frozen=True, slots=True)
class _Part:
    """A mapping of a manifest and where it stands."""

    path: str
    fields: Mapping[str, object]

    def only(self, *names: str) -> _Part:
        """Return this part, if it has no other fields. Raises Malformed."""
        for name in self.fields:
            if name not in names:
                raise errors.Malformed(
                    f"{self.path}.{name} is not known here: update the agents before the controllers"
                )
        return self

    def has(self, name: str) -> bool:
        """Return whether a field is there and not null."""
        return self.fields.get(name) is not None

    def part(self, name: str) -> _Part:
        """Return a mapping. Raises Malformed."""
        return _part(f"{self.path}.{name}", self.fields.get(name))

    def parts(self, name: str, most: int = PODS) -> tuple[_Part, ...]:
        """Return a list of mappings, empty where it is not given. Raises Malformed."""
        listed = self.fields.get(name, [])
        if not isinstance(listed, list) or len(listed) > most:
            raise errors.Malformed(f"{self.path}.{name} must be a list of at most {most}")
        return tuple(_part(f"{self.path}.{name}[{index}]", one) for index, one in enumerate(listed))

    def whole(self, name: str, least: int, most: int) -> int:
        """Return a whole number. Raises Malformed."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise errors.Malformed(f"{self.path}.{name} must be a whole number from {least} to {most}")
        return value

    def text(self, name: str) -> str:
        """Return a name. Raises Malformed."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
            raise errors.Malformed(f"{self.path}.{name} must be text of 1 to {LONGEST_NAME} characters")
        return value


def node_cap(raw: Mapping[str, object] | None, node: str) -> Parsed:
    """Return `spec.power` and `spec.plan` of our NodeCap, each None where it is absent.

    Raises:
        Malformed: The field and what it must be; or the NodeCap of another node.
    """
    if raw is None:
        return None, None
    name = _part("object", raw).part("metadata").text("name")
    if name != node:
        raise errors.Malformed(f"metadata.name is {name}, and this is {node}: a NodeCap of another node")
    spec = _part("spec", raw.get("spec")).only("plan", "power")
    if not (spec.has("plan") or spec.has("power")):
        raise errors.Malformed("spec holds neither plan nor power")
    grant = _granted(spec.part("power")) if spec.has("power") else None
    return grant, _plan(spec.part("plan")) if spec.has("plan") else None


def renewal(body: object) -> Renewal:
    """Return a lease call. Raises Malformed."""
    if not isinstance(body, dict):
        raise errors.Malformed("a lease call is a JSON object")
    caps = body.get("caps")
    if not isinstance(caps, dict):
        raise errors.Malformed("caps: give an object, empty for no cap")
    for name in ("epoch", "sequence"):
        if not number(body, name).is_integer():
            raise errors.Malformed(f"{name} must be a whole number")
    lease_s = number(body, "leaseSeconds")
    if not 0 < lease_s <= LONGEST_LEASE_S:
        raise errors.Malformed(f"leaseSeconds must lie above 0 and up to {LONGEST_LEASE_S}")
    return Renewal(
        epoch=int(number(body, "epoch")),
        sequence=int(number(body, "sequence")),
        lease_s=lease_s,
        caps=ClassCaps(
            low_mhz=_cap(caps, "lowMegahertz"),
            high_mhz=_cap(caps, "highMegahertz"),
            power_limit_w=_cap(caps, "powerLimitWatts"),
        ),
    )


def _cap(caps: Mapping[str, object], name: str) -> float | None:
    """Return a cap of a lease call; zero is none that a GPU could hold."""
    if name not in caps:
        return None
    value = number(caps, name)
    if value <= 0:
        raise errors.Malformed(f"caps.{name} must lie above 0; leave it out for no cap")
    return value


def _granted(power: _Part) -> Granted:
    power.only("epoch", "sequence", "leaseSeconds", "caps", "highPods", "safe", "grants")
    for grant in power.parts("grants", LEDGERS):  # `caps` and `safe` say what they come to
        grant.only("ledger", "sequence", "watts").text("ledger")
        grant.whole("sequence", 0, LARGEST_COUNT)
        grant.whole("watts", 1, LARGEST_W)
    if "leaseSeconds" in power.fields:
        power.whole("leaseSeconds", 1, LONGEST_LEASE_S)  # each lease call brings its own
    safe = power.part("safe").only("clockMegahertz", "powerLimitWatts")
    return Granted(
        epoch=power.whole("epoch", 0, LARGEST_COUNT),
        sequence=power.whole("sequence", 0, LARGEST_COUNT),
        caps=_caps(power.part("caps")) if "caps" in power.fields else ClassCaps(),
        high_pods=frozenset(_pod(one.only("namespace", "name")) for one in power.parts("highPods")),
        safe=SafeSetting(safe.whole("clockMegahertz", 1, LARGEST_MHZ), safe.whole("powerLimitWatts", 1, LARGEST_W)),
    )


def _caps(caps: _Part) -> ClassCaps:
    caps.only("lowMegahertz", "highMegahertz", "powerLimitWatts")
    ranges = {"lowMegahertz": LARGEST_MHZ, "highMegahertz": LARGEST_MHZ, "powerLimitWatts": LARGEST_W}
    low, high, limit = (float(caps.whole(n, 1, most)) if caps.has(n) else None for n, most in ranges.items())
    return ClassCaps(low, high, limit)


def _plan(plan: _Part) -> tuple[PlannedClock, ...]:
    plan.only("sequence", "pods").whole("sequence", 0, LARGEST_COUNT)
    pods = (one.only("namespace", "name", "clockMegahertz") for one in plan.parts("pods"))
    return tuple(PlannedClock(_pod(one), float(one.whole("clockMegahertz", 1, LARGEST_MHZ))) for one in pods)


def _pod(part: _Part) -> Pod:
    return Pod(part.text("namespace"), part.text("name"))


def _part(path: str, value: object) -> _Part:
    if not isinstance(value, dict):
        raise errors.Malformed(f"{path} must be a mapping of fields")
    return _Part(path, value)
