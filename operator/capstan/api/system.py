"""A system of the replay as a settings file: Capstan's own decisions with some of its knobs off.

Who calls it: `manifests`, for replay. The paper's systems and the ablations are such files (policies/systems); none of
them is code of its own. These documents never reach an API server.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, Strict

from capstan.api import fields
from capstan.api.schema import Spec
from capstan.api.servingpolicy import MAX_POOLS, Knobs
from capstan.model.policy import Objective


class Split(StrEnum):
    """How requests are split over pools."""

    POLICY = "Policy"
    """As the policy says."""
    SINGLE = "Single"
    """One pool."""
    PER_CLASS = "PerClass"
    """A pool for every class."""
    COUNT = "Count"
    """As many pools as `count` says; which classes share one is decided."""
    DISAGGREGATED = "Disaggregated"
    """A pool that computes prompts and one that decodes them."""


class Begin(StrEnum):
    """What stands ready when a run begins."""

    SHARED = "Shared"
    """What the scenario gives every system."""
    PEAK = "PeakPerPool"
    """Each pool's fleet of the largest tp that carries its busiest minute of the trace at full clock."""
    SINGLE_POOL = "SinglePool"
    """What `single-pool` has: the smallest fleet of the largest tp that meets the SLO on the trace at full clock."""


class Power(StrEnum):
    """What the scenario's power domains are to a system."""

    JOINT = "Joint"
    """Armed, and one decision for both: it sees their headroom and whom they cap."""
    SEPARATE = "Separate"
    """Armed, each on its own: the decision knows nothing of domains."""
    UNARMED = "Unarmed"
    """Watched: nobody is capped."""


class System(Spec):
    """Capstan with other settings."""

    api_version: Literal["replay.capstan.dev/v1alpha1"] = "replay.capstan.dev/v1alpha1"
    kind: Literal["System"]
    name: fields.Name
    words: fields.Text
    """One sentence for people."""
    split: Split = Split.POLICY
    count: Annotated[int | None, Strict(), Field(ge=1, le=MAX_POOLS)] = None
    knobs: Knobs | None = None
    """Left out: the policy's own."""
    start: Begin = Begin.SHARED
    power: Power = Power.JOINT
    objective: Objective | None = None
    """What its plans make least; left out: what the run or the policy says."""
