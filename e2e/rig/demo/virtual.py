"""The demo's scenario in virtual time: the baseline beside every run, and all of it where no cluster can be had."""

from __future__ import annotations

from capstan.replay import engine, provision, systems
from capstan.replay.runs import Run
from capstan.replay.scenario import Scenario
from capstan.replay.stage import Stage


def capstan(scenario: Scenario) -> Run:
    """Return Capstan's own run."""
    return engine.run(scenario, systems.Capstan.of(scenario))


def fixed(scenario: Scenario) -> Run:
    """Return the run of a fleet that is fixed at the mean load, at full clock, without caps."""
    return engine.run(scenario, provision.at_mean_load(scenario))


def single_pool(scenario: Scenario) -> Run:
    """Return the run of the smallest full-clock fleet that meets the SLO on this trace (DESIGN 7.1)."""
    return Stage(scenario).single_pool()
