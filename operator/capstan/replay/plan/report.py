"""What a plan found, in words and numbers; terminal, page and `fit.json` print the same.

Who calls it: `app.fit`, `page`. Must not know: HTML.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from capstan.powercap.domains import Level
from capstan.replay.pages import report as pages
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.plan import held, plausible
from capstan.replay.plan.planned import Case, Count, Found, Planned
from capstan.replay.plan.tape import WEEK_S
from capstan.replay.row import score
from capstan.replay.row.score import Slowdown

SCHEMA_VERSION = 1
STATES = (Level.LOW_BASE, Level.LOW_DEEP, Level.HIGH_CAP, Level.BRAKE)

Json = dict[str, object]


def sentence(found: Found) -> str:
    """Return the answer."""
    asked, most = found.asked, found.recommended
    if most is None:
        return f"Do not arm: not even the {asked.servers} servers of the trace hold; {_fails(found.binding.counts[0])}."
    binding = next(count for count in found.binding.counts if count.servers == most)
    capped = f"some cap is in force for {100 * binding.capped_ratio:.1f} % of the time"
    stops = _stops(found)
    return f"{most - asked.servers} more servers fit ({most}, {added(found, most)}): {capped}, no brake. {stops}"


def added(found: Found, servers: int) -> str:
    """Return how many servers are added, as a share of those that there are."""
    return f"+{round(100 * (servers / found.asked.servers - 1))} %"


def _stops(found: Found) -> str:
    over = next((count for count in found.binding.counts if not count.holds), None)
    if over is None:
        return f"More than {found.asked.most} were not tried: give --to."
    return f"At {over.servers} {_fails(over)}."


def _fails(count: Count) -> str:
    """Return the first reason why a count does not hold."""
    if not count.admission.fits:
        return (
            f"the domain could not be armed: one server lost and all others at their safe setting may draw "
            f"{count.admission.lost_node_w / 1e3:,.1f} of {count.admission.budget_w / 1e3:,.1f} kW"
        )
    if count.brakes or count.overbudget_j:
        return f"the brake is pulled {count.brakes} times and {count.overbudget_j / 1e3:,.1f} kJ lie above the budget"
    who = "high" if not score.POLCA_HIGH.hold(count.high) else "low"
    found = count.high if who == "high" else count.low
    return f"{who} priority is {_pair(found)} % slower (p50 / p99), more than POLCA's SLOs allow"


def cases(found: Found) -> Titled:
    """Return how many servers hold under each way to take what nobody measured."""
    rows = tuple(Row(described(one.case), tuple(_case(found, one))) for one in found.cases)
    heads = ("servers", "more", "thresholds, %", "low, MHz", "high, MHz")
    return Titled("How many servers hold", Headed(heads, rows), tuple(_case_notes(found)))


def described(case: Case) -> str:
    """Return a case in words."""
    servers = "servers rise together" if case.correlated else "servers know nothing of each other"
    return f"{servers}, clock response {case.response.value}"


def _case(found: Found, one: Planned) -> Iterator[Cell]:
    most, domain = one.most, one.held.domain
    tone = Tone.BAD if most is None else (Tone.GOOD if one is found.binding else Tone.PLAIN)
    yield Cell("none" if most is None else str(most), tone)
    yield Cell("" if most is None else added(found, most))
    at, caps = domain.thresholds, domain.caps
    yield Cell(f"{100 * at.low_ratio:.0f} / {100 * at.high_ratio:.0f} / {100 * at.brake_ratio:.0f}")
    yield Cell(f"{caps.low_base_mhz:.0f} / {caps.low_deep_mhz:.0f}")
    yield Cell(f"{caps.high_mhz:.0f}")


def _case_notes(found: Found) -> Iterator[str]:
    asked, one = found.asked, found.binding
    yield (
        "Recommended is what holds in every row: no brake, nothing above the budget, POLCA's SLOs (high p50 < 1 %, p99 "
        "< 5 %; low p50 < 5 %, p99 < 50 % slower), and the budget holds with one server lost (N-1)."
    )
    yield (
        "Of what moves around a mean of ten minutes, servers that know nothing of each other add up as the root of "
        "their number, servers that rise together as their number; the truth lies between."
    )
    if one.held.derived is not None:
        derived, days = one.held.derived, held.part_s(asked.tape) / 86_400
        yield (
            f"Thresholds come from the first {days:.1f} days: worst rise {100 * derived.rise_ratio:.1f} % within "
            f"{asked.path.latency_s:.0f} s. The plan is made on all {len(asked.tape.watts) / 86_400:.1f}."
        )
        if not derived.covers:
            yield "That rise is steeper than the high threshold leaves room for: such a one would meet the brake."
    if one.held.caps_derived:
        yield "Caps are as deep as the profile's slowdown lets each priority keep its SLO."
    yield from plausible.doubts(asked.tape, asked.path.latency_s)


def counts(found: Found) -> Titled:
    """Return the figures of every count in the case that binds."""
    one = found.binding
    heads = (
        "capped, %", "states, %", "brakes", "above, kJ", "longest, s", "peak, %", "low, %", "high, %", "safe, kW",
        "N-1, kW",
    )  # fmt: skip
    rows = tuple(Row(str(count.servers), tuple(_figures(count))) for count in one.counts)
    return Titled(f"By servers: {described(one.case)}", Headed(heads, rows), _notes(one))


def _figures(count: Count) -> Iterator[Cell]:
    shares = dict(count.state_ratio)
    yield Cell(f"{100 * count.capped_ratio:.1f}")
    yield Cell(" / ".join(f"{100 * shares.get(level, 0.0):.1f}" for level in STATES))
    yield Cell(f"{count.brakes:,}", Tone.BAD if count.brakes else Tone.GOOD)
    yield Cell(f"{count.overbudget_j / 1e3:,.0f}", Tone.BAD if count.overbudget_j else Tone.GOOD)
    yield Cell(f"{count.longest_excursion_s:.0f}")
    yield Cell(f"{100 * count.peak_ratio:.1f}")
    yield Cell(_pair(count.low), Tone.PLAIN if score.POLCA_LOW.hold(count.low) else Tone.BAD)
    yield Cell(_pair(count.high), Tone.PLAIN if score.POLCA_HIGH.hold(count.high) else Tone.BAD)
    yield Cell(f"{count.admission.safe_sum_w / 1e3:,.1f}")
    yield Cell(f"{count.admission.lost_node_w / 1e3:,.1f}", Tone.GOOD if count.admission.fits else Tone.BAD)


def _pair(one: Slowdown) -> str:
    return " / ".join(
        "no end" if math.isinf(ratio) else f"{100 * ratio:.1f}" for ratio in (one.p50_ratio, one.p99_ratio)
    )


def _notes(one: Planned) -> tuple[str, ...]:
    first = one.counts[0]
    weeks = first.heard_s / WEEK_S
    budget_kw = one.held.domain.budget_w / 1e3
    return (
        "States: LowBase / LowDeep / HighCap / Brake. Low, high: p50 / p99 of the slowdown, by the cap in force while "
        "work is done; no end: the servers do not keep up.",
        f"No brake in {weeks:.2g} weeks: with 95 % confidence below {score.most_brakes(0) / weeks:.2f} a week.",
        f"Safe, N-1: what {budget_kw:,.0f} kW must hold with every server at its safe setting, and with one lost.",
    )


def document(found: Found) -> Json:
    """Return what `fit.json` holds."""
    asked = found.asked
    return {
        "schema_version": SCHEMA_VERSION,
        "modelled": True,
        "domain": asked.declared.domain.name,
        "budget_w": asked.declared.domain.budget_w,
        "profile": asked.server.profile.name,
        "servers": asked.servers,
        "tried_servers": [asked.servers, asked.most],
        "low_share_ratio": asked.low_ratio,
        "latency_s": asked.path.latency_s,
        "trace": {
            "seconds": len(asked.tape.watts),
            "heard_s": asked.tape.heard_s,
            "period_s": asked.tape.period_s,
            "samples_without_value": asked.tape.lost,
        },
        "recommended_servers": found.recommended,
        "binding": _named(found.binding.case),
        "cases": [_planned(one) for one in found.cases],
    }


def _named(case: Case) -> Json:
    return {"clock_response": case.response.value, "correlated": case.correlated}


def _planned(one: Planned) -> Json:
    at, caps, derived = one.held.domain.thresholds, one.held.domain.caps, one.held.derived
    return {
        **_named(one.case),
        "most_servers": one.most,
        "thresholds_ratio": [at.low_ratio, at.high_ratio, at.brake_ratio],
        "hysteresis_ratio": at.hysteresis_ratio,
        "caps_mhz": [caps.low_base_mhz, caps.low_deep_mhz, caps.high_mhz, caps.brake_mhz],
        "rise_ratio": None if derived is None else derived.rise_ratio,
        "counts": [_count(count) for count in one.counts],
    }


def _count(count: Count) -> Json:
    return {
        "servers": count.servers,
        "state_ratio": {level.value: ratio for level, ratio in count.state_ratio},
        "brakes": count.brakes,
        "brakes_upper_95": score.most_brakes(count.brakes),
        "transitions": count.transitions,
        "overbudget_j": count.overbudget_j,
        "longest_excursion_s": count.longest_excursion_s,
        "peak_ratio": count.peak_ratio,
        "uncapped_peak_ratio": count.uncapped_ratio,
        "slowdown_p50_ratio": {"low": _finite(count.low.p50_ratio), "high": _finite(count.high.p50_ratio)},
        "slowdown_p99_ratio": {"low": _finite(count.low.p99_ratio), "high": _finite(count.high.p99_ratio)},
        "safe_sum_w": count.admission.safe_sum_w,
        "lost_node_w": count.admission.lost_node_w,
        "admitted": count.admission.fits,
        "slos_met": count.slos_met,
        "holds": count.holds,
    }


def _finite(ratio: float) -> float | None:
    """Return a slowdown; None: the servers do not keep up."""
    return ratio if math.isfinite(ratio) else None


def write(found: Found, html: str, out_dir: Path) -> Path:
    """Write both files and return the page's path.

    Raises:
        OSError: `out_dir` cannot be written; what was there before stays whole.
    """
    return pages.put(out_dir, document(found), html, "fit")
