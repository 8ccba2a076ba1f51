"""The page of the autoscalers: what each computes and every default with its source, from the code itself.

Who calls it: `capstan gen`. Must not know: anything that the modules do not say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType

from capstan.replay.autoscalers import (
    aibrix,
    clocks,
    defaults,
    dynamo_load,
    dynamo_sla,
    keda,
    kubeai,
    queue,
    wva,
    wva_tokens,
)

SECTIONS: tuple[tuple[ModuleType, tuple[type, ...]], ...] = (
    (queue, (defaults.Hpa, defaults.LoadTest)),
    (keda, (defaults.KedaSlo,)),
    (wva, (defaults.WvaV1,)),
    (wva_tokens, (defaults.WvaV2,)),
    (aibrix, (defaults.Aibrix,)),
    (dynamo_sla, (defaults.DynamoSla,)),
    (dynamo_load, (defaults.DynamoLoad,)),
    (kubeai, (defaults.Kubeai,)),
    (clocks, (defaults.StaticClock, defaults.Throttllem, defaults.Voltana)),
)

INTRO = """# Autoscalers in the replay

`capstan replay --systems …` runs these beside Capstan: each is rebuilt from its published formula in
`operator/capstan/replay/autoscalers/`, with its defaults frozen in `defaults.py`. All start from the same replicas,
keep the scenario's tensor-parallel degree (give it the best one for them), obey the policy's bounds, know the policy's
SLO where they can be told one, and see the same telemetry, as late as everybody's. None sees energy; joules are counted
outside.

Sources: [C] read in source code, a chart or a published package; [X] a vendor's page or an issue; [M] from memory;
[P] a paper; [I] inferred or chosen here, with the reason, and then in the autoscaler's favour.
"""


def page() -> str:
    """Return docs/reference/autoscalers.md, without the header that says it is generated."""
    return INTRO + "".join(_section(module, owners) for module, owners in SECTIONS)


def _section(module: ModuleType, owners: tuple[type, ...]) -> str:
    paragraphs = (module.__doc__ or "").strip().split("\n\n")
    title, _, what = paragraphs[0].partition(": ")
    first = what if what.startswith("llm-d") else what[:1].upper() + what[1:]
    rest = [paragraph for paragraph in paragraphs[1:] if not paragraph.startswith("Who calls it")]
    rows = [row for owner in owners for row in _table(owner)]
    return "\n".join(("", f"## {title}", "", "\n\n".join((first, *rest)), *rows, ""))


def _table(owner: type) -> Iterator[str]:
    summary = (owner.__doc__ or "").strip().splitlines()[0]
    yield from ("", summary, "", "| default | value | source |", "|---|---|---|")
    made = owner()
    for field in dataclasses.fields(owner):
        yield f"| `{field.name}` | {_told(getattr(made, field.name))} | {defaults.source_of(owner, field.name)} |"


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return "; ".join(_rate(rate) for rate in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rate(rate: defaults.Rate) -> str:
    return f"{rate.amount:g} {'%' if rate.percent else 'pods'} per {rate.period_s:g} s"
