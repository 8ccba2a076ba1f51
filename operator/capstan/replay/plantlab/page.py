"""`report.html` of a campaign: one page without a network; goals, tables, then the watts behind them.

Who calls it: `app.replay_kinds`. Must not know: files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from capstan.replay.pages import plots, rendering, svg, words
from capstan.replay.pages.plots import Plot
from capstan.replay.plantlab import draws, layout, report
from capstan.replay.plantlab.campaign import COMPARED, Campaign
from capstan.replay.plantlab.play import Run

BEFORE_S, AFTER_S = 5.0, 20.0  # of a power step: what is drawn


def of(found: Campaign) -> str:
    """Return the HTML."""
    judged = report.goals(found)
    with svg.style():
        drawn = (hour(found.shown), *((steps(found),) if found.shown_steps else ()))
    return rendering.html(
        "plant",
        headline=found.scene.spec.name,
        passed=all(goal.kept is not False for goal in judged),
        sentence=report.sentence(found),
        goals=judged,
        provenance=f"Modelled, not measured on GPUs: {words.profile(found.scene.profile)}.",
        tables=(report.hours(found), *((report.steps(found),) if found.steps else ())),
        plots=drawn,
        settings=_settings(found),
    )


def hour(runs: Sequence[Run]) -> Plot:
    """Draw the root's true watts under each strategy, against its budget."""
    figure, (axis,) = svg.panels(1, height_in=2.8)
    for index, run in enumerate(runs):
        whole_s = run.draw_w[:, 0].reshape(-1, layout.BINS).mean(axis=1)
        minutes = np.arange(len(whole_s)) / 60
        plots.line(axis, minutes, whole_s / 1e3, color=svg.series(index), lw=1.0, label=run.asked.strategy)
    budget_kw = runs[0].scene.root.budget_w / 1e3
    axis.axhline(budget_kw, color=svg.Ink.LIMIT, lw=1.6, label="budget")
    axis.set_title(f"{runs[0].scene.root.name}, kW", loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    axis.set_xlabel("minutes", color=svg.Ink.MUTED)
    svg.legend(axis, "lower right", (1, 1))
    caption = f"True AC watts, means of 1 s, first seed, variant {runs[0].asked.faults.name}."
    return Plot("Watts over the hour", caption, svg.text_of(figure, label="AC watts of the row over time"))


def steps(found: Campaign) -> Plot:
    """Draw the root around the cut: a panel per variant, 100 ms means of the first seed."""
    variants = list(dict.fromkeys(run.asked.faults.name for run in found.shown_steps))
    figure, axes = svg.panels(len(variants), height_in=1.9)
    for axis, variant in zip(axes, variants, strict=True):
        for run in (run for run in found.shown_steps if run.asked.faults.name == variant):
            at_s = 0.0 if run.asked.cut is None else run.asked.cut.at_s
            times_s = np.arange(len(run.draw_w)) / layout.BINS - at_s
            near = (times_s >= -BEFORE_S) & (times_s <= AFTER_S)
            colour = svg.series(COMPARED.index(run.asked.strategy))
            plots.line(axis, times_s[near], run.draw_w[near, 0] / 1e3, color=colour, label=run.asked.strategy)
            plots.step(axis, times_s[near], run.budget_w[near, 0] / 1e3, color=svg.Ink.LIMIT, lw=1.4)
        axis.set_title(f"{variant}, kW", loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
        svg.legend(axis, "lower right", (1, 1))
    axes[-1].set_xlabel("seconds since the cut", color=svg.Ink.MUTED)
    caption = "True AC watts of the row, means of 100 ms, first seed; red: its budget."
    return Plot("Budgets cut at full load", caption, svg.text_of(figure, label="AC watts of the row around a cut"))


def _settings(found: Campaign) -> tuple[tuple[str, str], ...]:
    scene = found.scene
    spec = scene.spec
    low, high = spec.boards.loop_milliseconds
    budgets = ", ".join(f"{domain.name} {domain.budget_w / 1e3:g} kW" for domain in scene.domains)
    return (
        ("servers", f"{len(scene.servers)} of {scene.gpus} GPUs, {sum(scene.highs)} with High priority"),
        ("budgets", budgets),
        ("profile", f"{words.profile(scene.profile)}; clock response {spec.clock_response.value}"),
        (
            "load",
            f"{draws.LENGTHS.name}, {spec.load.start_per_second} to {spec.load.end_per_second} requests/s a server",
        ),
        ("boards", f"sensors +-{spec.boards.gain_error_percent} %, limiters {low} to {high} ms"),
        ("stuck", f"{spec.boards.stuck_per_mille / 10:g} % of the boards"),
        ("seeds", ", ".join(map(str, found.seeds))),
    )
