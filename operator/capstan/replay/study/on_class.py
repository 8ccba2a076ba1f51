"""Statements on request classes, judged: who needs the clock, and which tp and clock suits whom at which load.

Who calls it: `findings`. Must not know: how a finding is printed.
"""

from __future__ import annotations

import itertools
import statistics

from capstan.replay.study import finding, surface
from capstan.replay.study.finding import Reading, Statement
from capstan.replay.study.loads import ClassLoad
from capstan.replay.study.survey import Choice, View

Setting = tuple[int, float]
"""tp and clock."""


def long_input(view: View) -> Reading:
    """Judge whether long prompts lose more to a lower clock than long answers do."""
    kinds = view.kinds
    longest_prompt = max(kinds, key=lambda kind: (kind.load.prompt_tokens, -kind.load.output_tokens))
    longest_answer = max(kinds, key=lambda kind: (kind.load.output_tokens, -kind.load.prompt_tokens))
    if longest_prompt is longest_answer:
        return finding.unanswered("no class has long prompts and short answers, or none the reverse")
    lost = [_lost(view, kind) for kind in (longest_prompt, longest_answer)]
    if not lost[0] or not lost[1]:
        return finding.unanswered("no batch has a steady state at both clocks")
    by_prompt, by_answer = (statistics.mean(losses) for losses in lost)
    sheet = view.of(longest_prompt)[0]
    low_mhz, timing = sheet.clocks_mhz[sheet.place(surface.PAPER_TWELVE_MHZ)], sheet.profile.timing
    return Reading(
        by_prompt > by_answer,
        f"At equal batches, from full clock to {low_mhz:,.0f} MHz, {longest_prompt.name} loses "
        f"{finding.percent(by_prompt)} of its throughput and {longest_answer.name} {finding.percent(by_answer)}, means "
        f"over tp and batch. That prefill follows the clock by {timing.prefill_clock_ratio:g} and decode by "
        f"{timing.decode_clock_ratio:g} is the profile's assumption, outside the band.",
        f"{longest_prompt.name} -{finding.percent(by_prompt)}, {longest_answer.name} -{finding.percent(by_answer)}",
        (("lost_long_prompt_ratio", by_prompt), ("lost_long_answer_ratio", by_answer)),
    )


def shortest(view: View) -> Reading:
    """Judge whether the shortest class is cheapest on the smallest tp at about 1.2 GHz."""
    if len(view.tps) == 1:
        return finding.unanswered("there is one tensor-parallel degree")
    kind = view.kinds[0]
    best = [(load, at) for load in range(len(surface.LOADS)) if (at := view.at_load(kind, load))]
    small = [at for _, at in best if at.tp == view.tps[0]]
    sheet = view.of(kind)[0]
    wanted_mhz = sheet.clocks_mhz[sheet.place(surface.PAPER_TWELVE_MHZ)]
    clocks = [at.cell.clock_mhz for at in small]
    among = bool(clocks) and min(clocks) <= wanted_mhz <= max(clocks)
    told = ", ".join(f"{_setting(at)} at {finding.percent(surface.LOADS[load])}" for load, at in best)
    return Reading(
        among,
        f"The least energy of {kind.name} takes {told or 'nothing: it misses its SLO'} of the load; {wanted_mhz:,.0f} "
        f"MHz {'lies' if among else 'does not lie'} among the clocks of tp {view.tps[0]}.",
        f"tp {view.tps[0]} at {len(small)} of {len(best)} loads",
        tuple((f"clock_at_load_{surface.LOADS[load]:g}_mhz", at.cell.clock_mhz) for load, at in best),
    )


def longest(view: View) -> Reading:
    """Judge whether the longest class keeps its SLO on the largest tp alone."""
    if len(view.tps) == 1:
        return finding.unanswered("there is one tensor-parallel degree")
    kind = view.kinds[-1]
    carried = [
        (sheet.profile.tp, max((c.arrival_rps for c in sheet.edge if c), default=0.0)) for sheet in view.of(kind)
    ]
    able = [tp for tp, most_rps in carried if most_rps > 0]
    told = ", ".join(f"tp {tp} {most_rps:.2f}" for tp, most_rps in carried)
    return Reading(
        able == [view.tps[-1]],
        f"{kind.name} keeps its SLO on {_listed(able)}; requests a second of one replica: {told}.",
        _listed(able),
        tuple((f"capacity_tp{tp}_rps", most_rps) for tp, most_rps in carried),
    )


def higher_load(view: View) -> Reading:
    """Judge whether a higher load pushes the best set-up to a higher tp, or a higher clock at the same tp."""
    steps = [
        (a.tp, a.cell.clock_mhz) <= (b.tp, b.cell.clock_mhz)
        for kind in view.kinds
        for a, b in itertools.pairwise(filter(None, (view.at_load(kind, i) for i in range(len(surface.LOADS)))))
    ]
    if not steps:
        return finding.unanswered("no class keeps its SLO at two loads")
    middle = _middle(view)
    path = [at for load in range(len(surface.LOADS)) if (at := view.at_load(middle, load))]
    return Reading(
        finding.most(steps),
        f"From one load to the next the least-energy set-up of one replica moves to a higher tp, or at the same tp "
        f"to no lower a clock, in {sum(steps)} of {len(steps)} steps; {middle.name}: {', '.join(map(_setting, path))}.",
        f"{sum(steps)} of {len(steps)} steps",
        (("steps", len(steps)), ("upward", sum(steps))),
    )


def no_static(view: View) -> Reading:
    """Judge whether no single tp and clock suits every class and load."""
    cases = [(k, i, at) for k in view.kinds for i in range(len(surface.LOADS)) if (at := view.at_load(k, i))]
    if not cases:
        return finding.unanswered("nothing keeps the SLO")
    settings = {(at.tp, at.cell.clock_mhz) for _, _, at in cases}
    costs = {setting: excess for setting in _settings(view) if (excess := _excess(view, setting, cases)) is not None}
    if not costs:
        ending = "no single one keeps the SLO in all of them"
        mean, worst = float("inf"), float("inf")
    else:
        setting, (mean, worst) = min(costs.items(), key=lambda item: item[1])
        ending = (
            f"the best single one that keeps the SLO in all of them, tp {setting[0]} at {setting[1]:,.0f} MHz, takes "
            f"{finding.percent(mean)} more energy in the mean over classes by their share, "
            f"{finding.percent(worst)} at worst"
        )
    return Reading(
        worst > finding.NEGLIGIBLE_RATIO,
        f"Over {len(cases)} pairs of class and load the least-energy set-ups of one replica are {len(settings)} "
        f"different pairs of tp and clock; {ending}.",
        f"+{finding.percent(mean)}" if costs else "none keeps the SLO",
        (("settings", len(settings)), *((("excess_mean_ratio", mean), ("excess_worst_ratio", worst)) if costs else ())),
    )


Case = tuple[ClassLoad, int, Choice]


def _excess(view: View, setting: Setting, cases: list[Case]) -> tuple[float, float] | None:
    """Return what one setting takes more than the best of each case, mean and worst; None where it misses an SLO."""
    weighted, weights, worst = 0.0, 0.0, 0.0
    for kind, load, best in cases:
        sheet = next(s for s in view.of(kind) if s.profile.tp == setting[0])
        cell = sheet.loads[load][sheet.clocks_mhz.index(setting[1])]
        if cell is None or not view.keeps(Choice(sheet, cell)):
            return None
        more = cell.j_per_output_token / best.cell.j_per_output_token - 1
        weighted, weights, worst = weighted + kind.share_ratio * more, weights + kind.share_ratio, max(worst, more)
    return weighted / weights, worst


def _settings(view: View) -> list[Setting]:
    return [(sheet.profile.tp, mhz) for sheet in view.of(view.kinds[0]) for mhz in sheet.clocks_mhz]


def _lost(view: View, kind: ClassLoad) -> list[float]:
    """Return the share of throughput lost from full clock to 1.2 GHz, at each tp and batch."""
    found = []
    for sheet in view.of(kind):
        place = sheet.place(surface.PAPER_TWELVE_MHZ)
        found += [1 - a.arrival_rps / b.arrival_rps for line in sheet.batches if (a := line[place]) and (b := line[0])]
    return found


def _middle(view: View) -> ClassLoad:
    return view.kinds[len(view.kinds) // 2]


def _setting(choice: Choice) -> str:
    return f"tp {choice.tp} at {choice.cell.clock_mhz:,.0f} MHz"


def _listed(tps: list[int]) -> str:
    return f"tp {', '.join(map(str, tps))}" if tps else "no tp"


STATEMENTS = (
    Statement(
        "long-input",
        "Long input is compute-heavy and clock-sensitive; long output is memory-heavy and tolerant",
        "direction seen; numbers not found",
        long_input,
    ),
    Statement("shortest", "SS runs at low energy on TP2 at 1.2 GHz", "[N1]", shortest),
    Statement("longest", "LL essentially meets its SLO on TP8 only", "[N1]", longest),
    Statement("higher-load", "Higher load pushes the best set-up to higher TP and clock", "[N1]", higher_load),
    Statement("no-static", "The best TP and clock depend on class and load: no static setting wins", "[N1]", no_static),
)
