"""What a run was worth: DESIGN 7.1's definitions, once, for the rig, virtual time, tests and reports.

Who calls it: `scores.compare`, `replay.provision`, `app.replay`, the rig's demo. Must not know: how the run was made.

Rules of evidence: what cannot be shown to be good is bad (`scores.measure`, `scores.budget`); a service without a
single request has shown nothing and does not meet its SLO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capstan.model.objective import NO_TARIFFS, Tariffs
from capstan.model.slo import Slo
from capstan.replay.pages import words
from capstan.replay.runs import Energy, Outcomes, Run
from capstan.replay.scores import bill, budget, limits, measure, slowdown, watts
from capstan.replay.scores.bill import Bill
from capstan.replay.scores.budget import DomainScore
from capstan.replay.scores.limits import Limits, SloSet
from capstan.replay.scores.measure import Quantiles, Tally

__all__ = [
    "DomainScore",
    "PolicyScore",
    "Quantiles",
    "Score",
    "SloSet",
    "Verdict",
    "of",
    "policy_score",
    "saving_ratio",
]

MIN_WINDOW_REQUESTS = 100
MIN_CLASS_REQUESTS = 1000
WINDOWS_RATIO = 0.95
"""DESIGN 7.1: the SLO holds in at least 95 % of the windows with at least 100 requests."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the requests of one service, or of all services of a run, show.

    Attributes:
        arrived, completed, good: Requests that arrived; finished; finished within both limits.
        attainment_ratio: good / arrived; None where nothing arrived.
        by_class: Attainment per class with at least 1,000 requests, as (`SL`, ratio) pairs: prompt, then output.
        class_mix: Share of the arrivals per class, of the classes that had any.
        windows_ratio: Share of the 5-minute windows with at least 100 requests that meet the percentile; None
            where no window has that many.
        ttft_s, tpot_s, tbt_s: Nearest rank over completed requests; `tbt_s` is of each request's longest gap.
        fluidity_low_ratio, fluidity_high_ratio: Bounds of Metron's index, mean over arrivals (`scores.fluidity`).
        output_tokens: Of completed requests.

    Of all services together the lowest of them stands in `by_class` and `windows_ratio` (each has its own limits).
    """

    arrived: int
    completed: int
    good: int
    attainment_ratio: float | None
    by_class: tuple[tuple[str, float], ...]
    class_mix: tuple[tuple[str, float], ...]
    windows_ratio: float | None
    ttft_s: Quantiles
    tpot_s: Quantiles
    tbt_s: Quantiles
    fluidity_low_ratio: float | None
    fluidity_high_ratio: float | None
    output_tokens: int


@dataclass(frozen=True, slots=True)
class PolicyScore:
    """One service of one run. `slo_met`: overall, in every class of `by_class`, and in 95 % of the windows."""

    policy: str
    limits: Limits
    slo_met: bool
    figures: Figures
    energy: Energy

    @property
    def energy_j(self) -> float:
        """Joules of assigned GPUs."""
        return self.energy.total_j

    @property
    def j_per_output_token(self) -> float | None:
        """Joules of assigned GPUs over the output tokens of completed requests; None where there is none."""
        return self.energy_j / self.figures.output_tokens if self.figures.output_tokens else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok` exactly when every policy met its SLO and every budget held; `faults` says in words what did not."""

    ok: bool
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Every figure of one run.

    Attributes:
        overall: All services as one, each request by its own service's limits.
        energy_unassigned_j: GPUs without a pod, at their unloaded idle watts.
        energy_node_j: What of the servers is not a GPU, modelled; None where nobody models it.
        peak_power_w: Highest sum of the assigned GPUs' watts between two samples; None where no sample tells.
        gpu_seconds, reconfigurations, clock_changes: Sums over the services; None for `bound`, which is no run.
        bill: What it cost in money and carbon.
    """

    system: str
    policies: tuple[PolicyScore, ...]
    domains: tuple[DomainScore, ...]
    overall: Figures
    energy_unassigned_j: float
    energy_node_j: float | None
    peak_power_w: float | None
    gpu_seconds: float | None
    reconfigurations: int | None
    clock_changes: int | None
    bill: Bill = bill.NOTHING

    @property
    def energy_j(self) -> float:
        """Joules of all assigned GPUs: the boundary *released* (GPUs without a pod at 0 W)."""
        return sum(policy.energy_j for policy in self.policies)

    @property
    def energy(self) -> Energy:
        """Where those joules went."""
        parts = [policy.energy for policy in self.policies]
        return Energy(sum(p.serving_j for p in parts), sum(p.idle_j for p in parts), sum(p.transition_j for p in parts))

    @property
    def j_per_output_token(self) -> float | None:
        """Joules of assigned GPUs over the output tokens of completed requests; None where there is none."""
        return self.energy_j / self.overall.output_tokens if self.overall.output_tokens else None

    @property
    def fleet_j(self) -> float:
        """Joules at the boundary *fleet*: GPUs without a pod counted."""
        return self.energy_j + self.energy_unassigned_j

    @property
    def slo_met(self) -> bool:
        """Whether every policy met its SLO; a run without policies has shown nothing."""
        return bool(self.policies) and all(policy.slo_met for policy in self.policies)

    @property
    def budget_held(self) -> bool:
        """Whether every domain kept its budget; True where there is no domain."""
        return all(domain.held for domain in self.domains)

    @property
    def passed(self) -> bool:
        """Whether SLO and budget held."""
        return self.verdict.ok

    @property
    def verdict(self) -> Verdict:
        """Whether SLO and budget held, and if not, what did not."""
        faults = [_slo_fault(policy) for policy in self.policies if not policy.slo_met]
        faults += [domain.fault for domain in self.domains if not domain.held]
        if not self.policies:
            faults.append("no policy was scored")
        return Verdict(not faults, tuple(faults))


def of(
    run: Run, slo_set: SloSet = SloSet.SCENARIO, tariffs: Tariffs = NO_TARIFFS, *, uncapped: Run | None = None
) -> Score:
    """Score a run by a set of limits, by each policy's own unless told otherwise, and by what joules and GPUs cost.

    `uncapped` is a run of the same system without caps, where what they cost in latency was asked for.

    Raises:
        ValueError: The record is broken: samples or arrivals out of order, columns of unequal length, a policy twice.
    """
    names = [service.policy for service in run.services]
    if len(set(names)) < len(names):
        raise ValueError(f"a policy has two services; got {', '.join(names)}")
    held = [limits.of(slo_set, service.slo) for service in run.services]
    tallies = [measure.tally(service.outcomes, h) for service, h in zip(run.services, held, strict=True)]
    policies = tuple(
        _policy(service.policy, h, tally, service.energy)
        for service, h, tally in zip(run.services, held, tallies, strict=True)
    )
    return Score(
        system=run.system,
        policies=policies,
        domains=budget.of(run, None if uncapped is None else slowdown.of(run, uncapped)),
        overall=_overall(run, policies, tallies),
        energy_unassigned_j=run.energy_unassigned_j,
        energy_node_j=run.energy_node_j,
        peak_power_w=watts.peak_w([service.series for service in run.services]),
        gpu_seconds=sum(service.gpu_seconds for service in run.services),
        reconfigurations=sum(service.reconfigurations for service in run.services),
        clock_changes=sum(service.clock_changes for service in run.services),
        bill=bill.of(run, tariffs),
    )


def policy_score(policy: str, slo: Slo, outcomes: Outcomes, energy: Energy) -> PolicyScore:
    """Score the requests of one service by its own limits."""
    held = limits.of(SloSet.SCENARIO, slo)
    return _policy(policy, held, measure.tally(outcomes, held), energy)


def saving_ratio(baseline: Score, other: Score) -> float | None:
    """Return the share of the baseline's joules that `other` saves; None unless both meet the SLO (DESIGN 7.1)."""
    if not (baseline.slo_met and other.slo_met and baseline.energy_j > 0):
        return None
    return (baseline.energy_j - other.energy_j) / baseline.energy_j


# --- one service -----------------------------------------------------------------------------------


def _policy(policy: str, held: Limits, tally: Tally, energy: Energy) -> PolicyScore:
    figures = _figures(tally, held)
    met = figures.attainment_ratio is not None and figures.attainment_ratio >= held.percentile_ratio
    met = met and all(ratio >= held.percentile_ratio for _, ratio in figures.by_class)
    met = met and (figures.windows_ratio is None or figures.windows_ratio >= WINDOWS_RATIO)
    return PolicyScore(policy, held, met, figures, energy)


def _figures(tally: Tally, held: Limits) -> Figures:
    passed = [
        good / arrived >= held.percentile_ratio for arrived, good in tally.windows if arrived >= MIN_WINDOW_REQUESTS
    ]
    return Figures(
        arrived=tally.arrived,
        completed=tally.completed,
        good=tally.good,
        attainment_ratio=_ratio(tally.good, tally.arrived),
        by_class=tuple(
            (name, good / arrived)
            for name, (arrived, good) in zip(limits.CLASSES, tally.classes, strict=True)
            if arrived >= MIN_CLASS_REQUESTS
        ),
        class_mix=_mix([tally]),
        windows_ratio=sum(passed) / len(passed) if passed else None,
        ttft_s=tally.ttft_s,
        tpot_s=tally.tpot_s,
        tbt_s=tally.tbt_s,
        fluidity_low_ratio=tally.fluidity_low_ratio,
        fluidity_high_ratio=tally.fluidity_high_ratio,
        output_tokens=tally.output_tokens,
    )


# --- all services ----------------------------------------------------------------------------------


def _overall(run: Run, policies: Sequence[PolicyScore], tallies: Sequence[Tally]) -> Figures:
    figures = [policy.figures for policy in policies]
    if len(figures) == 1:
        return figures[0]
    arrived, good = sum(f.arrived for f in figures), sum(f.good for f in figures)
    ttft_s, tpot_s, tbt_s = measure.pooled([service.outcomes for service in run.services])
    windows = [f.windows_ratio for f in figures if f.windows_ratio is not None]
    return Figures(
        arrived=arrived,
        completed=sum(f.completed for f in figures),
        good=good,
        attainment_ratio=_ratio(good, arrived),
        by_class=_worst_by_class(figures),
        class_mix=_mix(tallies),
        windows_ratio=min(windows, default=None),
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        tbt_s=tbt_s,
        fluidity_low_ratio=_mean([(f.arrived, f.fluidity_low_ratio) for f in figures]),
        fluidity_high_ratio=_mean([(f.arrived, f.fluidity_high_ratio) for f in figures]),
        output_tokens=sum(f.output_tokens for f in figures),
    )


def _worst_by_class(figures: Sequence[Figures]) -> tuple[tuple[str, float], ...]:
    pairs = [pair for one in figures for pair in one.by_class]
    return tuple((name, min(r for n, r in pairs if n == name)) for name in limits.CLASSES if name in dict(pairs))


def _mix(tallies: Sequence[Tally]) -> tuple[tuple[str, float], ...]:
    counts = [sum(tally.classes[code][0] for tally in tallies) for code in range(len(limits.CLASSES))]
    total = sum(counts)
    return tuple((name, count / total) for name, count in zip(limits.CLASSES, counts, strict=True) if count)


def _mean(weighted: Sequence[tuple[int, float | None]]) -> float | None:
    known = [(count, value) for count, value in weighted if value is not None]
    return sum(count * value for count, value in known) / sum(count for count, _ in known) if known else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _slo_fault(score: PolicyScore) -> str:
    """Return in words what was missed: where the total is fine, the class or the windows that are not."""
    figures, asked_ratio = score.figures, score.limits.percentile_ratio
    if figures.attainment_ratio is None:
        return f"{score.policy}: no request arrived, so no SLO was shown to be met"
    total = f"{words.percent(figures.attainment_ratio)} of {100 * asked_ratio:g} %"
    short = [f"{name} has {words.percent(ratio)}" for name, ratio in figures.by_class if ratio < asked_ratio]
    if figures.windows_ratio is not None and figures.windows_ratio < WINDOWS_RATIO:
        share = words.percent(figures.windows_ratio)
        short.append(f"{share} of the 5-minute windows keep it, {100 * WINDOWS_RATIO:g} % must")
    told = f"{score.policy}: SLO missed, {figures.good:,} of {figures.arrived:,} good ({total})"
    return f"{told}; {', '.join(short)}" if short else told
