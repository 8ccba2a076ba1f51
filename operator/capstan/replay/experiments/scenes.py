"""Experiments that are a scenario of their own: what happens in it is the question.

Who calls it: `catalog`. Must not know: how a row is played, how a table looks.
"""

from __future__ import annotations

from capstan.api import errors
from capstan.replay.experiments import figures as read
from capstan.replay.experiments.kinds import Experiment, Row
from capstan.replay.load import Loaded
from capstan.replay.options import Options

CAPSTAN, SINGLE_POOL, BEST_STATIC, OTHERS = "capstan", "single-pool", "best-static", "keda-slo"


def _contention(loaded: Loaded) -> tuple[Row, ...]:
    if len(loaded.demands) < 2:
        raise errors.Invalid("--scenario", f"{loaded.run.name} has one policy; give one in which several contend")
    return _beside(OTHERS)


def _shock(loaded: Loaded) -> tuple[Row, ...]:
    if not loaded.run.events:
        raise errors.Invalid("--scenario", f"{loaded.run.name} has no events; give one with bursts or lost nodes")
    return _beside(OTHERS)


def _beside(other: str) -> tuple[Row, ...]:
    return (Row(SINGLE_POOL, SINGLE_POOL), Row(other, other), Row(CAPSTAN, beside=other))


CONTENTION = Experiment(
    name="contention",
    words="Three models want more GPUs than there are, then more watts: who gives way?",
    rows=_contention,
    figures=(read.ENERGY, read.CHANGE_ANYWAY, read.GOOD, read.TTFT, read.TPOT, read.GPU_HOURS, read.OVER_BUDGET),
    scenario="contention",
    ordered=True,
    notes=("energy ±%: against keda-slo, whether or not the SLO was met.",),
)

SHOCK = Experiment(
    name="shock",
    words="Bursts of 2 and 5 times the load in ten seconds, a node lost at the peak: how long until all is well?",
    rows=_shock,
    figures=(read.ENERGY, read.CHANGE_ANYWAY, read.GOOD, read.TTFT, read.TPOT, read.GPU_HOURS),
    scenario="shock",
    ordered=True,
    notes=("energy ±%: against keda-slo, whether or not the SLO was met.",),
)

LONG = (read.ENERGY, read.SAVING, read.SAVING_FLEET, read.CHANGE, read.GOOD, read.TTFT, read.TPOT)


def _fixed(_: Loaded) -> tuple[Row, ...]:
    return (Row(SINGLE_POOL, SINGLE_POOL), Row(BEST_STATIC, BEST_STATIC), Row(CAPSTAN, beside=BEST_STATIC))


LONG_CONTEXT = Experiment(
    name="long-context",
    words="Prompts of 32,768 to 128,000 tokens beside conversation: does the hierarchy still pay?",
    rows=_fixed,
    figures=LONG,
    scenario="long-context",
    ordered=True,
    notes=("energy ±%: against best-static. A replica lies on one node: several by schema only, not in this world.",),
)

REASONING = Experiment(
    name="reasoning",
    words="Answers of 7,000 tokens: does the hierarchy still pay where all is decode?",
    rows=_fixed,
    figures=LONG,
    scenario="reasoning",
    ordered=True,
    notes=("energy ±%: against best-static.",),
)


def _variants(loaded: Loaded) -> tuple[Row, ...]:
    """Return a row per variant that is good enough, beside the first."""
    if not loaded.run.variants:
        raise errors.Invalid("--scenario", f"{loaded.run.name} offers no variants; give one that does")
    spec = loaded.run.variants[0]
    names = [each.name for each in spec.offered if float(each.quality) >= float(spec.min_quality)]
    if not names:
        raise errors.Invalid(
            "variants[0].minQuality", f"no variant reaches {spec.min_quality}; lower it, or offer others"
        )
    first = names[0]
    return tuple(
        Row(name, asked=Options(variant=name), beside=None if name == first else first) for name in (*names, "cheapest")
    )


VARIANTS = Experiment(
    name="variants",
    words="What does it save to serve the same answers in other ways, never below the quality that is asked for?",
    rows=_variants,
    figures=(read.ENERGY, read.CHANGE, read.GOOD, read.TTFT, read.TPOT, read.GPU_HOURS),
    scenario="variants",
    ordered=True,
    notes=(
        "energy ±%: against the first. A variant below minQuality is refused and has no row; `cheapest` is chosen in "
        "closed form at the mean load. Physics of drafts and 8 bits are derived, not measured (model/variant.py).",
    ),
)

EXPERIMENTS = (CONTENTION, SHOCK, LONG_CONTEXT, REASONING, VARIANTS)
