"""What can happen in the run of a scenario file: budgets cut, nodes lost, bursts of requests.

Who calls it: `scenario`, for its `Run`. These documents never reach an API server.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from capstan.api import fields
from capstan.api.schema import Spec, rule

MAX_FACTOR = 100
POLICY_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
PolicyKey = Annotated[str, Field(max_length=317, pattern=POLICY_PATTERN)]
"""`namespace/name` of a ServingPolicy in the same file."""


class BudgetCut(Spec):
    """From a moment on a power domain has another budget; a second cut with the old one takes the first one back."""

    at_seconds: fields.Count
    """Since the run began."""
    kind: Literal["BudgetCut"]
    domain: fields.Name
    budget_watts: fields.Watts


class NodeLost(Spec):
    """A node is gone: its pods are, and the requests that were inside them are lost."""

    at_seconds: fields.Count
    """Since the run began."""
    kind: Literal["NodeLost"]
    node: fields.Name
    """A node of the fleet: the name of its group, a dash and a number from 0."""
    for_seconds: fields.Positive | None = None
    """How long it is away; left out: it does not come back."""


class RateBurst(Spec):
    """A policy's rates rise to a multiple of the trace's, stay there, and fall as they rose."""

    at_seconds: fields.Count
    """When the rise begins, since the run began."""
    kind: Literal["RateBurst"]
    policy: PolicyKey
    factor: fields.Parameter
    """Rates at the top, as a multiple of the trace's; decimal string."""
    ramp_seconds: Annotated[int, Strict(), Field(ge=1, le=86_400)] = 10
    """How long the rise takes, and the fall."""
    for_seconds: fields.Positive
    """From the start of the rise to the start of the fall."""

    @rule(field="factor", fix=f"is the multiple at the top of a burst; write a number above 1, at most {MAX_FACTOR}")
    def _rises(self) -> bool:
        return 1 < float(self.factor) <= MAX_FACTOR

    @rule(field="forSeconds", fix="a burst lasts at least as long as it rises; raise it, or lower rampSeconds")
    def _reaches_the_top(self) -> bool:
        return self.for_seconds >= self.ramp_seconds


Event = Annotated[BudgetCut | NodeLost | RateBurst, Field(discriminator="kind")]
