"""What became of the requests: `outcomes.jsonl` of the load driver, as the record knows them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from capstan.model.slo import Slo
from capstan.replay.runs import Energy, Outcomes, Requests
from capstan.replay.scores import score
from capstan.replay.seen import Service
from rig.demo.view import Served

NO_ENERGY = Energy(0.0, 0.0, 0.0)  # while the run goes on only good and bad are counted


@dataclass(frozen=True, slots=True)
class Told:
    """One line of `outcomes.jsonl`; times are NaN where the driver says null: refused, failed, or never there."""

    policy: str
    id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float
    finish_s: float


def write_requests(services: Iterable[Service], path: Path) -> None:
    """Write every request of every service as the load driver reads it."""
    with path.open("w") as out:
        for service in services:
            asked = service.requests
            rows = zip(
                asked.arrival_s.tolist(), asked.prompt_tokens.tolist(), asked.output_tokens.tolist(), strict=True
            )
            for row, (arrival_s, prompt_tokens, output_tokens) in enumerate(rows):
                planned = {
                    "policy": service.policy.key,
                    "id": row,
                    "t": arrival_s,
                    "prompt_tokens": prompt_tokens,
                    "output_tokens": output_tokens,
                }
                out.write(json.dumps(planned) + "\n")


def of_line(line: str) -> Told:
    """Return one line of `outcomes.jsonl`."""
    said = json.loads(line)
    times_s = [math.nan if said[name] is None else said[name] for name in ("first_s", "finish_s")]
    return Told(said["policy"], said["id"], said["arrival_s"], said["prompt_tokens"], said["output_tokens"], *times_s)


def complete(services: Iterable[Service], lines: Iterable[str]) -> dict[str, Outcomes]:
    """Return what became of every planned request, by policy; one that the driver never reported is unserved.

    Raises:
        ValueError: A request ended twice: no figure of such a record would mean anything.
    """
    told: dict[tuple[str, int], Told] = {}
    for outcome in map(of_line, lines):
        key = (outcome.policy, outcome.id)
        if key in told:
            raise ValueError(f"request {outcome.id} of {outcome.policy} has two outcomes; remove the older record")
        told[key] = outcome
    return {s.policy.key: _joined(s.requests, {row: o for (p, row), o in told.items() if p == s.policy.key})
            for s in services}  # fmt: skip


def _joined(asked: Requests, told: Mapping[int, Told]) -> Outcomes:
    never = [math.nan] * len(asked)
    columns = {"first_s": np.array(never), "finish_s": np.array(never)}
    for row, outcome in told.items():
        columns["first_s"][row], columns["finish_s"][row] = outcome.first_s, outcome.finish_s
    return Outcomes(asked, **columns, max_tbt_s=np.array(never))  # the driver notes no single tokens


def of_told(told: Iterable[Told]) -> Outcomes:
    """Return some lines as columns, in order of arrival."""
    rows = sorted(told, key=lambda one: one.arrival_s)
    asked = Requests(
        np.array([row.arrival_s for row in rows], dtype=np.float64),
        np.array([row.prompt_tokens for row in rows], dtype=np.int64),
        np.array([row.output_tokens for row in rows], dtype=np.int64),
    )
    return _joined(asked, dict(enumerate(rows)))


class Tail:
    """Follows a file that another process appends whole lines to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._rest = ""

    def lines(self) -> list[str]:
        """Return the whole lines that are new, each with its newline; none while the file is not there yet."""
        if self._file is None:
            if not self._path.exists():
                return []
            self._file = self._path.open()
        whole = (self._rest + self._file.read()).splitlines(keepends=True)
        self._rest = whole.pop() if whole and not whole[-1].endswith("\n") else ""
        return whole

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


class Tally:
    """Counts finished requests per policy, good ones apart, while the run goes on."""

    def __init__(self, path: Path, slos: Mapping[str, Slo]) -> None:
        self._tail = Tail(path)
        self._slos = slos
        self.served = {policy: Served(0, 0) for policy in slos}

    def update(self) -> None:
        """Read what is new."""
        told = [of_line(line) for line in self._tail.lines()]
        for policy, slo in self._slos.items():
            fresh = of_told(one for one in told if one.policy == policy)
            found, so_far = score.policy_score(policy, slo, fresh, NO_ENERGY).figures, self.served[policy]
            self.served[policy] = Served(so_far.done + found.arrived, so_far.good + found.good)

    def close(self) -> None:
        """Let go of the file."""
        self._tail.close()
