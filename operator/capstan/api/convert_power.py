"""The way inside for PowerDomains: a manifest to what the machine, the budget and the slow meters need.

Who calls it: `power`, `replay` and the rig, for manifests from the API server and from files alike. What this version
does not do is refused here with a word, never ignored in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from capstan import units
from capstan.api import errors, manifests, v1alpha1
from capstan.api.powerdomain import Caps, PowerDomainSpec, Thresholds
from capstan.powercap import budget, domains
from capstan.powercap.domains import Strategy

Manifest = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Query:
    """What a slow meter is asked: PromQL for AC watts as one number, and how old an answer still says something."""

    promql: str
    max_age_s: float


FEED_MAX_AGE_S = 60.0  # the default of spec.meter.maxAgeSeconds: a PDU that is polled once a minute still counts


def power_domain(
    manifest: Manifest,
    nodes: tuple[str, ...],
    *,
    armed: bool = False,
    safe: domains.SafeSetting | None = None,
    timed: bool = False,
) -> domains.Domain:
    """Return a PowerDomain as the machine sees it.

    Args:
        manifest: The object as the API server or a file has it.
        nodes: Names of all nodes below this domain, as its and its children's selectors found them.
        armed: Whether caps may be written: mode Act, and admitted.
        safe: The safe setting in force.
        timed: Whether the caller is the live side, which applies `reductions`, `feeds` and grants; else a domain that
            sets them is refused.

    Raises:
        Invalid: The field and the fix. An armed domain stays armed on its last valid spec: the caller's duty.
    """
    parsed = manifests.parse(v1alpha1.PowerDomain, manifest)
    return domain_of(parsed, nodes, armed=armed, safe=safe, timed=timed)


def domain_of(
    parsed: v1alpha1.PowerDomain,
    nodes: tuple[str, ...],
    *,
    armed: bool = False,
    safe: domains.SafeSetting | None = None,
    timed: bool = False,
) -> domains.Domain:
    """Return the same of a manifest that was parsed before. Raises Invalid."""
    spec = parsed.spec
    _refuse_unheld(spec, timed=timed)
    return domains.Domain(
        name=parsed.metadata.name,
        parent=spec.parent_name,
        kind=spec.type.value,
        budget_w=float(spec.budget_watts),
        thresholds=_thresholds(spec.thresholds),
        caps=_caps(spec.caps),
        armed=armed,
        non_gpu_typical_w=float(spec.non_gpu_watts_per_node.typical),
        non_gpu_worst_w=float(spec.non_gpu_watts_per_node.worst_case),
        supply_efficiency_ratio=units.ratio_of_percent(spec.power_supply_efficiency_percent),
        nodes=nodes,
        safe=safe,
        strategy=spec.strategy,
    )


def reductions(spec: PowerDomainSpec) -> tuple[budget.Reduction, ...]:
    """Return the timed reductions of a domain, in epoch seconds and watts."""
    return tuple(
        budget.Reduction(r.from_.timestamp(), r.to.timestamp(), float(r.budget_watts)) for r in spec.reductions
    )


def meter(spec: PowerDomainSpec) -> Query | None:
    """Return what a domain's meter is asked; None: it has none."""
    return None if spec.meter is None else Query(spec.meter.query, float(spec.meter.max_age_seconds))


def feeds(spec: PowerDomainSpec) -> dict[str, Query]:
    """Return what each redundant feed is asked, by name."""
    return {feed.name: Query(feed.query, FEED_MAX_AGE_S) for feed in spec.feeds}


def _refuse_unheld(spec: PowerDomainSpec, *, timed: bool) -> None:
    if timed:
        return
    if spec.strategy is not Strategy.STATISTICAL:
        raise errors.Invalid("spec.strategy", f"{spec.strategy} is held by `capstan power` only; use Statistical here")
    if spec.reductions:
        raise errors.Invalid("spec.reductions", "are applied by `capstan power` only; change budgetWatts instead")
    if spec.feeds:
        raise errors.Invalid("spec.feeds", "are read by `capstan power` only; set budgetWatts to what one feed carries")


def _thresholds(spec: Thresholds | None) -> domains.Thresholds:
    if spec is None:
        return domains.Thresholds()
    return domains.Thresholds(
        low_ratio=units.ratio_of_percent(spec.low_percent),
        high_ratio=units.ratio_of_percent(spec.high_percent),
        brake_ratio=units.ratio_of_percent(spec.brake_percent),
        hysteresis_ratio=units.ratio_of_percent(spec.hysteresis_percent),
    )


def _caps(spec: Caps | None) -> domains.Caps:
    if spec is None:
        return domains.Caps()
    return domains.Caps(
        low_base_mhz=float(spec.low_base_megahertz),
        low_deep_mhz=float(spec.low_deep_megahertz),
        high_mhz=float(spec.high_megahertz),
        brake_mhz=float(spec.brake_megahertz),
    )
