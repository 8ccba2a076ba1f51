"""The domains of a run: a budget that is cut gets the safe setting that fits it, as live."""

from __future__ import annotations

import pytest

from capstan.model.policy import Priority
from capstan.powercap.domains import Level
from support import racks
from support.racks import Load


@pytest.mark.parametrize(("budget_w", "brakes"), [(4_500.0, False), (3_000.0, True)], ids=["fits", "does not"])
def test_a_cut_brakes_a_quiet_rack_only_where_its_lowest_limits_do_not_fit(budget_w: float, brakes: bool) -> None:
    """Two servers of 8 GPUs at 200 W and 5 % over: 3,360 W; with one lost 7,560 W, so it could not be armed anew."""
    loads = (Load("batch", Priority.LOW, ((0, 0.2),), replicas=1, most=1),)
    played = racks.play(loads, (racks.cut(20.0, budget_w=budget_w),), span_s=60.0)
    (rack,) = played.run.domains
    assert (str(Level.BRAKE) in set(rack.level)) is brakes
