"""The live proof of power domains, its short part: real power, agents and setters; promise P1 watched throughout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.proof import scenarios
from rig.proof.site import Site
from support.rig import ApiServer

pytestmark = pytest.mark.timeout(240)  # thirty processes start in 20 s, on a machine that does other things in 90


@pytest.fixture(scope="module")
def site(api_server: ApiServer, nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A row of two racks, eight servers of two boards, armed, with two replicas of `capstan power`."""
    with Site(api_server.control_plane, tmp_path_factory.mktemp("proof"), nvml_library) as made:
        yield made


def test_every_level_that_a_load_asks_for_is_taken_and_released(site: Site) -> None:
    """Stop boosting; far above the budget the brake; then what holds; and every level back after its dwell."""
    scenarios.up_and_back(site)


def test_a_killed_leader_loosens_nothing_and_a_deleted_domain_what_its_budget_bears(site: Site) -> None:
    """With full load and caps on, both; nobody's cap goes before the arithmetic allows it."""
    scenarios.loaded(site)
    scenarios.leader_killed(site)
    scenarios.deleted(site)
