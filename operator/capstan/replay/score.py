"""What a run was worth: DESIGN 7.1's definitions, once, for the rig, virtual time, tests and reports.

Who calls it: `replay.report`, `replay.provision`, `app.replay`, the rig's demo. Must not know: how the run was made.

Rules of evidence: what cannot be shown to be good is bad. A request without a finish, or with a time that is NaN or
runs backwards, is bad; watts that are NaN, and gaps between ticks that could hide an excursion, count as above the
budget; a policy without a single request has shown nothing and does not meet its SLO.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capstan.model.slo import Slo
from capstan.replay import budget
from capstan.replay.budget import DomainScore
from capstan.replay.record import Outcome, Run

__all__ = ["DomainScore", "PolicyScore", "Score", "Verdict", "of", "policy_score", "saving_ratio"]

WINDOW_S = 300.0
"""DESIGN 7.1: 5-minute windows, by arrival, counted from the run's start."""

MIN_WINDOW_REQUESTS = 100
MIN_CLASS_REQUESTS = 1000
WINDOWS_RATIO = 0.95
"""DESIGN 7.1: the SLO holds in at least 95 % of the windows with at least 100 requests."""

PROMPT_EDGES = (256, 1024)
OUTPUT_EDGES = (100, 350)
"""DESIGN 7.1: class edges in tokens, lower bound included."""


@dataclass(frozen=True, slots=True)
class PolicyScore:
    """One policy of one run.

    Attributes:
        arrived, completed, good: Requests that arrived; finished; finished within both limits.
        attainment_ratio: good / arrived; None where nothing arrived.
        by_class: Attainment per class with at least 1,000 requests, as (`SL`, ratio) pairs: prompt, then output.
        windows_ratio: Share of the 5-minute windows with at least 100 requests that meet the percentile; None
            where no window has that many.
        slo_met: Overall, in every class of `by_class`, and in 95 % of the windows.
        ttft_p50_s … tpot_p99_s: Nearest rank over completed requests (TPOT: of more than one token); None of none.
        energy_j: Joules of assigned GPUs.
        j_per_output_token: energy_j over the output tokens of completed requests; None where there is none.
    """

    policy: str
    slo: Slo
    arrived: int
    completed: int
    good: int
    attainment_ratio: float | None
    by_class: tuple[tuple[str, float], ...]
    windows_ratio: float | None
    slo_met: bool
    ttft_p50_s: float | None
    ttft_p90_s: float | None
    ttft_p99_s: float | None
    tpot_p50_s: float | None
    tpot_p90_s: float | None
    tpot_p99_s: float | None
    energy_j: float
    output_tokens: int
    j_per_output_token: float | None

    @property
    def percentile_ratio(self) -> float:
        """The share of good requests that the SLO asks for."""
        return self.slo.percentile_ratio


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok` exactly when every policy met its SLO and every budget held; `faults` says in words what did not."""

    ok: bool
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Every figure of one run."""

    system: str
    policies: tuple[PolicyScore, ...]
    domains: tuple[DomainScore, ...]

    @property
    def energy_j(self) -> float:
        """Joules of all assigned GPUs."""
        return sum(policy.energy_j for policy in self.policies)

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


def of(run: Run) -> Score:
    """Score a run.

    Raises:
        ValueError: The record is broken: ticks out of order, a request twice, or one of a policy not in the run.
    """
    _check(run)
    policies = []
    for service in run.services:
        outcomes = [outcome for outcome in run.outcomes if outcome.policy == service.policy]
        policies.append(policy_score(service.policy, service.slo, outcomes, energy_j=service.energy_j))
    return Score(run.system, tuple(policies), budget.of(run))


def _check(run: Run) -> None:
    """Refuse a record in which a request ends twice or belongs to nobody: no figure of it would mean anything."""
    known = {service.policy for service in run.services}
    counted = Counter((outcome.policy, outcome.request_id) for outcome in run.outcomes)
    for (policy, request_id), times in counted.items():
        if policy not in known:
            raise ValueError(f"outcome of policy {policy}, which is not among the run's services")
        if times > 1:
            raise ValueError(f"request {request_id} of {policy} has {times} outcomes")


def saving_ratio(baseline: Score, other: Score) -> float | None:
    """Return the share of the baseline's joules that `other` saves; None unless both meet the SLO (DESIGN 7.1)."""
    if not (baseline.slo_met and other.slo_met and baseline.energy_j > 0):
        return None
    return (baseline.energy_j - other.energy_j) / baseline.energy_j


# --- requests --------------------------------------------------------------------------------------


def ttft_s(outcome: Outcome) -> float | None:
    """Return the time to first token; None where there was none or the times cannot be true."""
    if outcome.first_s is None:
        return None
    value = outcome.first_s - outcome.arrival_s
    return value if math.isfinite(value) and value >= 0 else None


def tpot_s(outcome: Outcome) -> float | None:
    """Return (finish - first) / (output - 1); None for one output token, no finish, or impossible times."""
    if outcome.first_s is None or outcome.finish_s is None or outcome.output_tokens <= 1:
        return None
    value = (outcome.finish_s - outcome.first_s) / (outcome.output_tokens - 1)
    return value if math.isfinite(value) and value >= 0 else None


def completed(outcome: Outcome) -> bool:
    """Return whether a request finished, at times that can be true."""
    if ttft_s(outcome) is None or outcome.finish_s is None or outcome.first_s is None:
        return False
    return math.isfinite(outcome.finish_s) and outcome.finish_s >= outcome.first_s


def good(outcome: Outcome, slo: Slo) -> bool:
    """Return whether a request kept both limits (TTFT only where it asked for one token)."""
    first = ttft_s(outcome)
    if first is None or not completed(outcome) or first > slo.ttft_s:
        return False
    pace = tpot_s(outcome)
    return pace is None or pace <= slo.tpot_s


def request_class(outcome: Outcome) -> str:
    """Return the class as two letters, prompt bucket then output bucket: `SL` is a short prompt, a long answer."""
    prompt = sum(outcome.prompt_tokens >= edge for edge in PROMPT_EDGES)
    output = sum(outcome.output_tokens >= edge for edge in OUTPUT_EDGES)
    return "SML"[prompt] + "SML"[output]


def policy_score(policy: str, slo: Slo, outcomes: Sequence[Outcome], *, energy_j: float = 0.0) -> PolicyScore:
    """Score the requests of one policy."""
    goods = [outcome for outcome in outcomes if good(outcome, slo)]
    done = [outcome for outcome in outcomes if completed(outcome)]
    attainment = len(goods) / len(outcomes) if outcomes else None
    by_class = _by_group(map(request_class, outcomes), map(request_class, goods), MIN_CLASS_REQUESTS)
    windows = _by_group(map(_window, outcomes), map(_window, goods), MIN_WINDOW_REQUESTS)
    passed = [ratio >= slo.percentile_ratio for _, ratio in windows]
    windows_ratio = sum(passed) / len(passed) if passed else None
    met = attainment is not None and attainment >= slo.percentile_ratio
    met = met and all(ratio >= slo.percentile_ratio for _, ratio in by_class)
    tokens = sum(outcome.output_tokens for outcome in done)
    first, pace = _known(map(ttft_s, done)), _known(map(tpot_s, done))
    return PolicyScore(
        policy=policy,
        slo=slo,
        arrived=len(outcomes),
        completed=len(done),
        good=len(goods),
        attainment_ratio=attainment,
        by_class=by_class,
        windows_ratio=windows_ratio,
        slo_met=met and (windows_ratio is None or windows_ratio >= WINDOWS_RATIO),
        ttft_p50_s=_nearest_rank(first, 0.50),
        ttft_p90_s=_nearest_rank(first, 0.90),
        ttft_p99_s=_nearest_rank(first, 0.99),
        tpot_p50_s=_nearest_rank(pace, 0.50),
        tpot_p90_s=_nearest_rank(pace, 0.90),
        tpot_p99_s=_nearest_rank(pace, 0.99),
        energy_j=energy_j,
        output_tokens=tokens,
        j_per_output_token=energy_j / tokens if tokens else None,
    )


def quantile_of(values: Iterable[float | None], ratio: float) -> float | None:
    """Return the nearest-rank quantile of the values that are there: the smallest that `ratio` do not exceed."""
    return _nearest_rank(_known(values), ratio)


def _nearest_rank(ranked: Sequence[float], ratio: float) -> float | None:
    return ranked[max(math.ceil(ratio * len(ranked) - 1e-9), 1) - 1] if ranked else None


def _known(values: Iterable[float | None]) -> list[float]:
    return sorted(value for value in values if value is not None)


def _window(outcome: Outcome) -> str:
    return str(math.floor(outcome.arrival_s / WINDOW_S))


def _by_group(arrived: Iterable[str], kept: Iterable[str], minimum: int) -> tuple[tuple[str, float], ...]:
    """Return the share of good requests per group, of the groups with at least `minimum` requests."""
    goods = Counter(kept)
    return tuple((name, goods[name] / count) for name, count in sorted(Counter(arrived).items()) if count >= minimum)


def _slo_fault(score: PolicyScore) -> str:
    if score.attainment_ratio is None:
        return f"{score.policy}: no request arrived, so no SLO was shown to be met"
    wanted = f"{score.slo.percentile_ratio:.1%}"
    return (
        f"{score.policy}: SLO missed, {score.good} of {score.arrived} good ({score.attainment_ratio:.2%} of {wanted})"
    )
