"""What became of the requests: `outcomes.jsonl` of the load driver, as the record knows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from capstan.model.slo import Slo
from capstan.replay import score
from capstan.replay.record import Outcome
from capstan.replay.scenario import Service
from rig.demo.view import Served


def write_requests(services: Iterable[Service], path: Path) -> None:
    """Write every request of every service as the load driver reads it."""
    with path.open("w") as out:
        for service in services:
            for request in service.requests:
                planned = {
                    "policy": service.policy.key,
                    "id": request.request_id,
                    "t": request.arrival_s,
                    "prompt_tokens": request.prompt_tokens,
                    "output_tokens": request.output_tokens,
                }
                out.write(json.dumps(planned) + "\n")


def of_line(line: str) -> Outcome:
    """Return one line of `outcomes.jsonl`; a request that failed has no finish."""
    said = json.loads(line)
    return Outcome(
        said["policy"],
        said["id"],
        said["arrival_s"],
        said["prompt_tokens"],
        said["output_tokens"],
        said["first_s"],
        said["finish_s"],
    )


def complete(services: Iterable[Service], lines: Iterable[str]) -> tuple[Outcome, ...]:
    """Return one outcome per planned request; one that the driver never reported is unserved, not forgotten."""
    told = {(o.policy, o.request_id): o for o in map(of_line, lines)}
    return tuple(
        told.get(
            (s.policy.key, r.request_id),
            Outcome(s.policy.key, r.request_id, r.arrival_s, r.prompt_tokens, r.output_tokens, None, None),
        )
        for s in services
        for r in s.requests
    )


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
        for outcome in map(of_line, self._tail.lines()):
            so_far = self.served[outcome.policy]
            good = score.good(outcome, self._slos[outcome.policy])
            self.served[outcome.policy] = Served(so_far.done + 1, so_far.good + good)

    def close(self) -> None:
        """Let go of the file."""
        self._tail.close()
