"""The load of a row: who gets how many requests when, fixed before any policy is run.

Who calls it: `experiment`. Must not know: policies. The same seed gives the same requests at every server count and
under every system: each server draws from a stream of its own.

A busy server's draw hardly depends on how many requests it decodes (as measured: policies/scenarios/polca-row.yaml),
so a row follows the day by how many of its servers are busy; arrivals at a busy server are Poisson.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.model.profile import Profile
from capstan.replay import published
from capstan.replay.row import loop, physics, servers, workloads
from capstan.replay.row.physics import Server, Tables
from capstan.replay.row.workloads import Workload
from capstan.replay.runs import Floats

MINUTE_S, HOUR_S, WEEK_S = 60, 3600, 604_800
WARM_UP_S = HOUR_S  # servers begin empty: nothing is scored or measured before
PLACES = 512  # requests that may wait at a server; more are refused and counted
STREAMS = 7919  # a prime between the seeds of two servers' streams


@dataclass(frozen=True, slots=True)
class Kind:
    """What stands in a row: the LLM, the services, the server and its tables, how busy a busy server is."""

    profile: Profile
    server: Server
    services: tuple[Workload, ...]
    tables: Tables
    load_ratio: float


def level(seed: int, weeks: int) -> Floats:
    """Return the share of servers that are busy in each minute: some weeks of the Azure conversation week of 2024.

    Every day a bit busier or quieter than the published one (`published.another`); the busiest hour keeps all servers
    busy.
    """
    drawn = [published.another(published.WEEK, seed * 1000 + week).rates.per_min for week in range(weeks)]
    hourly = np.concatenate(drawn)
    hours = np.arange(weeks * WEEK_S // MINUTE_S + 2) * MINUTE_S / HOUR_S
    return np.asarray(np.interp(hours, np.arange(len(hourly)) + 0.5, hourly) / hourly.max())


def demand(kind: Kind, count: int, levels: Floats) -> loop.Demand:
    """Return who gets how many requests."""
    kinds = np.array(workloads.of_server(kind.services, count))
    rank = [float((kinds[:i] == kinds[i]).sum()) for i in range(count)]
    peers = [float((kinds == one).sum()) for one in kinds]
    per_s = np.array([kind.load_ratio * most_per_s(kind, w) for w in range(len(kind.services))])
    low = np.array([int(kind.services[one].low) for one in kinds])
    return loop.Demand(per_s[kinds], np.array(rank), np.array(peers), low, levels)


def most_per_s(kind: Kind, w: int) -> float:
    """Return the requests per second that a server of a service can do at full clock and with full slots."""
    service, slots = kind.services[w], kind.tables.slots[w]
    decode_s = sum(service.output_tokens) / 2 / (kind.tables.decode_per_s[w, slots, -1] * slots)
    return 1.0 / (mean_work_s(kind, service) + float(decode_s))


def mean_work_s(kind: Kind, service: Workload) -> float:
    """Return the mean seconds of prefill of a service's prompts, at full clock."""
    low, high = service.prompt_tokens
    return float(physics.prefill_work_s(kind.profile, np.linspace(low, high, 33)).mean())


def fresh(kind: Kind, count: int, seed: int) -> servers.Servers:
    """Return servers without a request."""
    rows = np.zeros(count, servers.ROW)
    rows["kind"] = workloads.of_server(kind.services, count)
    rows["rng"] = (np.arange(count) * STREAMS + seed * 1_000_003) & 0xFFFFFFFF
    slots = int(kind.tables.slots.max()) + 1
    for i in range(count):
        rows[i]["mass"] = servers.exponential(rows, i)
    return servers.Servers(rows, np.zeros((count, slots)), np.zeros((count, slots)), np.zeros((count, PLACES, 3)))


def services(kind: Kind) -> servers.Services:
    """Return what requests look like."""
    longest = max(service.prompt_tokens[1] for service in kind.services)
    work_s = np.concatenate([[0.0], physics.prefill_work_s(kind.profile, np.arange(1.0, longest + 1))])
    return servers.Services(
        np.array([service.prompt_tokens for service in kind.services]),
        np.array([service.output_tokens for service in kind.services]),
        work_s,
    )
