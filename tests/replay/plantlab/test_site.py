"""Samples that come late or not at all, and commands that take time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from capstan.api import plant
from capstan.replay.plantlab.site import Site
from capstan.replay.plantlab.world import World
from support import plants


def pair(**faults: object) -> tuple[World, Site]:
    told = plant.Faults.model_validate({"name": "f", **faults})
    world = plants.world(plants.small(2), rps=5, seconds=12, faults=told)
    return world, Site(world, told, seed=1)


def test_without_faults_a_sample_is_half_a_second_old_and_what_the_sensors_said() -> None:
    world, site = pair()
    world.advance()
    heard = site.hear()
    assert heard.new.all()
    assert heard.age_s == pytest.approx(0.5)
    assert np.array_equal(heard.watts, world.servers["read_w"])


def test_lag_shows_what_was() -> None:
    world, site = pair(lagSeconds=2)
    said = []
    for _ in range(4):
        world.advance()
        said.append(world.servers["read_w"].copy())
        heard = site.hear()
    assert np.array_equal(heard.watts, said[1])
    assert heard.age_s == pytest.approx(2.5)


def test_lost_samples_leave_the_last_one_standing_and_ageing() -> None:
    world, site = pair(lostPercent=100)
    for _ in range(3):
        world.advance()
        heard = site.hear()
    assert not heard.new.any()
    assert heard.age_s == pytest.approx(3.5), "before the run everybody was heard"


@pytest.mark.parametrize(("both_ways", "reaches"), [(False, True), (True, False)])
def test_a_blackout_silences_all_for_its_time(both_ways: bool, reaches: bool) -> None:
    world, site = pair(blackout={"atSeconds": 2, "forSeconds": 3, "commandsToo": both_ways})
    new, through = [], []
    for _ in range(6):
        world.advance()
        new.append(bool(site.hear().new.any()))
        through.append(site.reaches())
    assert new == [True, False, False, False, True, True]
    assert through == [True, reaches, reaches, reaches, True, True]


def test_a_command_takes_its_time_and_is_read_back_when_it_is_in_force() -> None:
    world, site = pair()
    world.advance()
    count = len(world.servers)
    site.want(np.ones(count), np.full(count, 300.0))
    site.act()
    assert world.boards["limit_w"].min() == 700, "nothing happens at once"
    for _ in range(6):  # the longest actuation is 4 s
        world.advance()
        site.act()
    assert (site.hear().limit_w == 300).all()


def test_commands_that_fail_are_tried_again() -> None:
    of = plants.small(2)
    spec = of.spec.model_copy(update={"actuation": of.spec.actuation.model_copy(update={"failure_percent": 60})})
    world = World(dataclasses.replace(of, spec=spec), plants.NO_FAULTS, plants.steady(5), seed=1, seconds=40)
    site = Site(world, plants.NO_FAULTS, seed=1)
    count = len(world.servers)
    site.want(np.full(count, 0.5), np.full(count, 700.0))
    done = []
    for _ in range(40):
        site.act()
        world.advance()
        done.append((world.boards["cap_ratio"] == 0.5).all(axis=1).mean())
    assert done[0] < 1.0
    assert done[-1] == 1.0
    assert site.confirmed() == (not world.boards["stuck"].any())
