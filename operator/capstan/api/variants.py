"""What else a service of a scenario may be served by, and how good it has to be.

Who calls it: `scenario`, for its `Run`. These documents never reach an API server.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from capstan.api import fields
from capstan.api.events import PolicyKey
from capstan.api.schema import Spec, rule


class Draft(Spec):
    """Speculative decoding (vLLM `--speculative-config`)."""

    tokens: Annotated[int, Strict(), Field(ge=1, le=16)]
    """Drafted per step."""
    acceptance: fields.Ratio
    """Chance that a drafted token is kept where the one before it was; below 1."""
    cost: fields.Ratio
    """Time of drafting one token over the LLM's own time to stream its weights."""
    source: fields.Sentence
    """Where the acceptance and the cost come from."""

    @rule(field="acceptance", fix="nobody keeps every drafted token; write a share below 1")
    def _below_one(self) -> bool:
        return float(self.acceptance) < 1


class Variant(Spec):
    """One way to serve."""

    name: fields.Name
    model: fields.Text
    """An LLM that has profiles."""
    quality: fields.Ratio
    """Share of a benchmark's answers that are right."""
    quality_source: fields.Sentence
    """Which benchmark, and who measured it."""
    weights: fields.Ratio = "1"
    """Bytes of a weight over the profile's; above 0."""
    multiply: fields.Ratio = "1"
    """Time of the prompt's matrix products over the profile's; above 0."""
    draft: Draft | None = None

    @rule(field="weights", fix="weights and multiply are shares of what the profile has; write numbers above 0")
    def _positive(self) -> bool:
        return float(self.weights) > 0 and float(self.multiply) > 0


class Variants(Spec):
    """What a policy may be served by. The policy's own model is none of it unless it is offered."""

    policy: PolicyKey
    min_quality: fields.Ratio
    """No variant below it serves."""
    offered: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=16)]

    @rule(field="offered", fix="two variants have one name; rename one of them")
    def _names_differ(self) -> bool:
        return len({variant.name for variant in self.offered}) == len(self.offered)
