"""Joules per request of each route: measured joules, shared out by what each route's tokens cost in the model.

A board has one meter for all that it computes at once, so joules per route are an apportionment, never a measurement:
what is measured is the sum. A route is whatever requests are told apart by: a class, a tenant, a path. (A pool has GPUs
of its own, and so a meter: `model.oddity`.)
Who calls it: `replay.scores`, `replay.engine`. Must not know: where counts come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from capstan.model import latency, power
from capstan.model.profile import Profile


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Marginal joules of a replica's tokens at one working point. Only their ratio matters to an apportionment."""

    prompt_j_per_token: float
    output_j_per_token: float

    def __post_init__(self) -> None:
        for cost in (self.prompt_j_per_token, self.output_j_per_token):
            if not (math.isfinite(cost) and cost > 0):
                raise ValueError("a token costs a finite number of joules above 0")


@dataclass(frozen=True, slots=True)
class Use:
    """What one route did in a span. `requests` finished with this many tokens in all."""

    route: str
    requests: int
    prompt_tokens: float
    output_tokens: float

    def __post_init__(self) -> None:
        if not (self.requests >= 0 and self.prompt_tokens >= 0 and self.output_tokens >= 0):
            raise ValueError("a route's requests and tokens are counts, 0 or more")


@dataclass(frozen=True, slots=True)
class Share:
    """A route's part of the joules."""

    route: str
    requests: int
    energy_j: float

    @property
    def request_j(self) -> float | None:
        """Joules per request; None where none finished."""
        return self.energy_j / self.requests if self.requests else None


def token_cost(p: Profile, *, batch: float, sequence_tokens: float, x: float = 1.0) -> TokenCost:
    """Return what one more token of each kind costs a replica that serves a steady batch.

    Args:
        p: The physics.
        batch: Sequences that decode at once, >= 1.
        sequence_tokens: Mean context of one of them.
        x: Clock ratio in (0, 1].

    Returns:
        Of an output token: a decode step's joules over its batch. Of a prompt token: what a chunk adds to such a step,
        over its tokens. Both of all GPUs of the replica.
    """
    context_tokens = batch * sequence_tokens
    decode_j = _step_j(p, batch, context_tokens, 0.0, x)
    chunk_tokens = float(p.chunk_tokens)
    added_j = _step_j(p, batch, context_tokens, chunk_tokens, x) - decode_j
    return TokenCost(added_j / chunk_tokens, decode_j / batch)


def apportioned(energy_j: float, uses: Sequence[Use], cost: TokenCost) -> tuple[Share, ...]:
    """Return each route's part of the joules, in the order of `uses`; the parts add up to all of it.

    Example: 900 J; a prompt token costs 1 J and an output token 10; route a had 100 and 10 tokens, b 100 and 0:
    200 against 100, so 600 J and 300 J. Where no token was served nobody can be charged: all parts are 0.

    Raises:
        ValueError: Joules below 0 or not finite: a meter that runs backwards measures nothing.
    """
    if not (math.isfinite(energy_j) and energy_j >= 0):
        raise ValueError(f"energy_j must be 0 or more; got {energy_j}")
    dearer_j = max(cost.prompt_j_per_token, cost.output_j_per_token)
    prompt_ratio, output_ratio = cost.prompt_j_per_token / dearer_j, cost.output_j_per_token / dearer_j
    parts = [prompt_ratio * use.prompt_tokens + output_ratio * use.output_tokens for use in uses]
    whole = math.fsum(parts)
    shares = [
        part / whole if whole > 0 else 0.0 for part in parts
    ]  # divided first: joules over next to nothing are inf
    return tuple(Share(use.route, use.requests, energy_j * ratio) for use, ratio in zip(uses, shares, strict=True))


def _step_j(p: Profile, batch: float, context_tokens: float, chunk_tokens: float, x: float) -> float:
    """Return the joules of a step, of all GPUs of the replica; the chunk begins its prompt."""
    duration_s = latency.mixed_step_s(p, batch, context_tokens, chunk_tokens, 0.0, x)
    return p.tp * duration_s * power.mixed_w(p, batch, context_tokens, chunk_tokens, 0.0, 0.0, x)
