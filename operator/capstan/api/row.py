"""The scenario kind `Row`: POLCA's experiment, a row of servers for weeks under a power domain (facts/polca.md 1).

Who calls it: `manifests`, for `capstan replay`. Budget and the paper's thresholds and caps are those of the file's
`PowerDomain`. These documents never reach an API server.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from capstan.api import fields
from capstan.api.schema import Spec, rule

Share = Annotated[int, Strict(), Field(ge=0, le=100)]
More = Annotated[int, Strict(), Field(ge=0, le=100)]
Weeks = Annotated[int, Strict(), Field(ge=1, le=52)]


class RowGpu(Spec):
    """What one GPU of a server draws, in percent of its TDP, at the maximum clock."""

    idle_percent: fields.Percent
    """With the model loaded and no request."""
    decode_percent: fields.Percent
    prefill_percent: Annotated[int, Strict(), Field(ge=1, le=150)]
    clock_exponent: fields.Parameter
    """What is drawn above idle goes with the clock to this power."""

    @rule(field="decodePercent", fix="a GPU draws more decoding than idle, and no more than in prefill; correct it")
    def _order(self) -> bool:
        return self.idle_percent < self.decode_percent <= self.prefill_percent


class RowServer(Spec):
    """One server. Its watts are scaled until the row peaks at `peakPercent`; here are the proportions."""

    gpu_share_percents: Annotated[tuple[fields.Percent, ...], Field(min_length=1, max_length=8)]
    """The GPUs' share of a server's peak; the first one by default, all with --full."""
    follows_percent: fields.Percent
    """Share of a server's peak that follows the load, its GPUs' included."""
    gpu: RowGpu

    @rule(field="gpuSharePercents", fix="GPUs follow the load: no share may be above followsPercent, nor that 100")
    def _follows(self) -> bool:
        return max(self.gpu_share_percents) <= self.follows_percent < 100


class RowWeeks(Spec):
    """How many weeks thresholds are derived from, and how many after them are scored."""

    derived: Weeks
    scored: Weeks


class Row(Spec):
    """A row that was built for `servers` and is asked how many more it holds."""

    api_version: Literal["replay.capstan.dev/v1alpha1"] = "replay.capstan.dev/v1alpha1"
    kind: Literal["Row"]
    name: fields.Name
    profile: fields.Name
    """The ServingProfile of the LLM on all GPUs of a server: how fast it is. What it draws is `server`'s."""
    servers: Annotated[int, Strict(), Field(ge=2, le=400)]
    more_percents: Annotated[tuple[More, ...], Field(min_length=1, max_length=32)]
    """How many servers are added."""
    peak_percent: fields.Percent
    """Without caps and without more servers the row peaks at this share of its budget."""
    load_percent: fields.Percent
    """How much of what it could serve a busy server is asked for."""
    low_share_percents: Annotated[tuple[Share, ...], Field(min_length=1, max_length=8)]
    """Share of servers with low priority; the first one by default, all with --full."""
    server: RowServer
    weeks: RowWeeks
    full_weeks: RowWeeks
    """With --full."""
    systems: Annotated[tuple[fields.Name, ...], Field(max_length=64)] = ()
    """Left out: all."""
    seeds: Annotated[tuple[fields.Count, ...], Field(min_length=1, max_length=100)] = (1,)
    full_seeds: Annotated[tuple[fields.Count, ...], Field(min_length=1, max_length=100)] = (
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
    )

    @rule(field="morePercents", fix="write them ascending, each once")
    def _ascending(self) -> bool:
        return fields.ascends(self.more_percents)
