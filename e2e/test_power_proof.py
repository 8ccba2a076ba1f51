"""The live proof of power domains, all of it: each process killed, stopped or cut off; P1 held. About 20 minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from rig.proof import command, faults, granted
from rig.proof.site import GUARANTEED, STATISTICAL, Site

START_S = 600  # a control plane, thirty processes and the scenario, on a machine that does other things


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Site]:
    """A row of two racks, armed with a strategy; prints the table at the end, captured output or not."""
    with command.running(tmp_path_factory.mktemp("p"), request.param) as made:
        yield made
        told = f"\n{command.told_setup()}\n{command.told(made.rows)}\n{command.told_moves(made)}"
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            sys.stdout.write(f"{told}\n")


@pytest.mark.timeout(START_S)
@pytest.mark.parametrize("site", [STATISTICAL], indirect=True)
@pytest.mark.parametrize("name", faults.ALL)
def test_the_budget_holds(site: Site, name: str) -> None:
    """Back below the budget within 10 s of crossing it, whatever is dead; a scenario says what else it promises."""
    faults.play(site, name)


@pytest.mark.timeout(START_S)
@pytest.mark.parametrize("site", [GUARANTEED], indirect=True)
@pytest.mark.parametrize("name", granted.ALL)
def test_no_joule_is_above_the_budget_under_grants(site: Site, name: str) -> None:
    """What limits allow at worst fits every budget, whatever is dead; after a cut it follows within 10 s."""
    granted.ALL[name](site)
