"""How many servers each system holds: several fleet sizes of one scenario with power domains, side by side.

Who calls it: `app.replay`, where `--servers` names several sizes. Must not know: how a run was made. The terminal,
`servers.html` and `servers.json` say the same; of several seeds it is the first one's figures.

A size holds where every SLO is met, no brake was pulled and no joule was drawn above a budget. The most that holds is
the largest size below which none fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan.model.policy import Priority
from capstan.powercap.domains import Level
from capstan.replay.pages import document, rendering, report, words
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.pages.numbers import finite
from capstan.replay.scores.budget import DomainScore
from capstan.replay.scores.compare import Comparison
from capstan.replay.scores.score import PolicyScore, Score

SCHEMA_VERSION = 1
JSON_NAME = "servers.json"
FREE = (Level.NORMAL, Level.DISARMED)

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Size:
    """One fleet size and the systems that were played on it."""

    servers: int
    comparison: Comparison

    def score(self, system: str) -> Score | None:
        """Return how a system did; None: it was not played."""
        column = self.comparison.column(system)
        return None if column is None else column.score


def holds(score: Score) -> bool:
    """Return whether every SLO was met without a brake and without a joule above a budget."""
    quiet = all(not d.brakes and not d.overbudget_j and not d.unknown_s for d in score.domains)
    return score.slo_met and quiet


def most(sizes: Sequence[Size], system: str) -> int | None:
    """Return the most servers that a system holds; a size above one that fails does not count. None: not the fewest."""
    found = None
    for size in sorted(sizes, key=lambda size: size.servers):
        score = size.score(system)
        if score is None or not holds(score):
            break
        found = size.servers
    return found


def names(sizes: Sequence[Size]) -> tuple[str, ...]:
    """Return the systems in the order of the report."""
    return tuple(dict.fromkeys(column.run.system for size in sizes for column in size.comparison.columns))


# --- tables ------------------------------------------------------------------------------------------


def tables(sizes: Sequence[Size]) -> tuple[Titled, ...]:
    """Return the most servers of every system, then two tables per size."""
    return _most(sizes), *(table(size) for size in sizes for table in (_served, _drawn))


def sentence(sizes: Sequence[Size]) -> str:
    """Return how many servers hold, in a sentence."""
    told = (f"{name} {_count(most(sizes, name))}" for name in names(sizes))
    return f"Servers that hold, of {words.listed([str(size.servers) for size in sizes])}: {', '.join(told)}."


def _most(sizes: Sequence[Size]) -> Titled:
    heads = tuple(str(size.servers) for size in sizes)
    rows = [
        Row(name, (Cell(_count(most(sizes, name))), *(_held(size.score(name)) for size in sizes)))
        for name in names(sizes)
    ]
    note = "Holds: every SLO met, no brake, no joule above a budget; a size above one that fails does not count."
    return Titled("How many servers each system holds", Headed(("most", *heads), tuple(rows)), (note,))


def _count(servers: int | None) -> str:
    return "none" if servers is None else str(servers)


def _held(score: Score | None) -> Cell:
    if score is None:
        return Cell(words.NONE)
    if holds(score):
        return Cell("holds", Tone.GOOD)
    return Cell("draws too much" if score.slo_met else "misses SLO", Tone.BAD)


def _served(size: Size) -> Titled:
    """Return the table of what a size's systems used, and how requests fared."""
    columns = size.comparison.columns
    unit = words.energy_unit(column.score.fleet_j for column in columns)
    policies = [policy.policy for policy in columns[0].score.policies]
    slowed = any(domain.slowdown is not None for column in columns for domain in column.score.domains)
    shown = tuple(reversed(Priority)) if slowed else ()
    heads = (f"GPU {unit.name}", "idle too", *(f"{name.split('/')[-1]} %" for name in policies))
    rows = []
    for column in columns:
        score = column.score
        energy = (Cell(unit.number(score.energy_j)), Cell(unit.number(score.fleet_j)))
        good = (_good(policy) for policy in score.policies)
        rows.append(Row(column.run.system, (*energy, *good, *(Cell(_slowdown(score.domains, each)) for each in shown))))
    notes = ["idle too: GPUs without a pod counted."]
    if slowed:
        notes.append("high, low: end-to-end p50 / p99 in percent, slower than the same system without caps.")
    title = f"{size.servers} servers: energy and latency"
    return Titled(title, Headed((*heads, *(f"{each.lower()} %" for each in shown)), tuple(rows)), tuple(notes))


def _good(policy: PolicyScore) -> Cell:
    ratio = policy.figures.attainment_ratio
    text = "100" if ratio == 1 else words.percent(ratio).removesuffix(" %")
    return Cell(text, Tone.GOOD if policy.slo_met else Tone.BAD)


def _drawn(size: Size) -> Titled:
    """Return the table of the power domains: all of them together, peaks and times of the one that is worst off."""
    heads = ("peak %", "brakes", "above kJ", "longest s", "capped %")
    rows = tuple(Row(column.run.system, _power(column.score.domains)) for column in size.comparison.columns)
    note = "peak: of the budget. above: joules above the budget. longest: without a break. capped: share of the time."
    return Titled(f"{size.servers} servers: power", Headed(heads, rows), (note,))


def _power(domains: Sequence[DomainScore]) -> tuple[Cell, ...]:
    brakes, over_j = sum(d.brakes for d in domains), sum(d.overbudget_j for d in domains)
    peaks = [d.peak_w / d.budget_w for d in domains if d.peak_w is not None]
    return (
        Cell(f"{100 * max(peaks):.1f}" if peaks else words.NONE),
        Cell(f"{brakes:,}", Tone.BAD if brakes else Tone.GOOD),
        Cell(f"{over_j / 1e3:,.1f}", Tone.BAD if over_j else Tone.GOOD),
        Cell(f"{max((d.longest_excursion_s for d in domains), default=0.0):.0f}"),
        Cell(f"{100 * max((_capped(d) for d in domains), default=0.0):.1f}"),
    )


def _capped(domain: DomainScore) -> float:
    """Return the share of the time in which a domain capped somebody."""
    return sum(ratio for level, ratio in domain.state_ratio if level not in FREE)


def _slowdown(domains: Sequence[DomainScore], priority: Priority) -> str:
    """Return p50 / p99 in percent; every domain has the same."""
    found = next((one for d in domains for own, one in d.slowdown or () if own is priority), None)
    if found is None:
        return words.NONE
    each = (found.p50_ratio, found.p99_ratio)
    return " / ".join(words.NONE if ratio is None else f"{100 * ratio:.1f}" for ratio in each)


# --- files -------------------------------------------------------------------------------------------


def of(sizes: Sequence[Size]) -> Json:
    """Return what `servers.json` holds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "modelled": True,
        "scenario": sizes[0].comparison.conditions.scenario,
        "systems": {
            name: {
                "most_servers": most(sizes, name),
                "sizes": [_size(size.servers, score) for size in sizes if (score := size.score(name)) is not None],
            }
            for name in names(sizes)
        },
    }


def _size(servers: int, score: Score) -> Json:
    return {
        "servers": servers,
        "holds": holds(score),
        "energy_j": finite(score.energy_j),
        "energy_unassigned_j": finite(score.energy_unassigned_j),
        "j_per_output_token": finite(score.j_per_output_token),
        "services": [
            {"policy": p.policy, "slo_attainment_ratio": finite(p.figures.attainment_ratio), "slo_met": p.slo_met}
            for p in score.policies
        ],
        "domains": [document.domain(domain) for domain in score.domains],
    }


def page(sizes: Sequence[Size]) -> str:
    """Return the HTML of `servers.html`."""
    first = sizes[0].comparison
    profiles = dict.fromkeys(p for column in first.columns for s in column.run.services for p in s.profiles)
    return rendering.html(
        "servers",
        headline=first.conditions.scenario,
        passed=most(sizes, names(sizes)[0]) is not None,
        sentence=sentence(sizes),
        provenance=f"Modelled, not measured on GPUs: {'; '.join(profiles)}.",
        tables=tables(sizes),
        settings=first.conditions.settings,
    )


def write(sizes: Sequence[Size], out_dir: Path) -> Path:
    """Write page and figures, and return the page's path.

    Raises:
        OSError: `out_dir` cannot be written; what was there before stays whole.
    """
    return report.put(out_dir, of(sizes), page(sizes), "servers")
