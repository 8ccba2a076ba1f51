"""Small whole replays: a scenario of values for the engine, and files of one for the command line.

Two tps of the round-numbered engine, two servers of eight GPUs, a few hundred requests in a few minutes.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from capstan import decide
from capstan.__main__ import cli
from capstan.model.policy import Bounds
from capstan.model.profile import Profile
from capstan.replay.nodes import Node
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.seen import Seen, Service, Want
from support import api, builders
from support.planned import columns, with_tp
from support.replay import poisson

TP4 = builders.profile()
TP8 = with_tp(TP4, 8)
BOTH = (TP4, TP8)
KEY = builders.CHAT
STARTUP_S = 30.0

Json = dict[str, Any]  # what a test reads of report.json


@functools.cache
def requests(count: int = 300, rate_rps: float = 3.0, seed: int = 1) -> Requests:
    """Poisson arrivals with exponential lengths, 500 and 60 tokens on average."""
    return columns(poisson(count, rate_rps=rate_rps, prompt=500, output=60, seed=seed))


def scenario(trace: Requests | None = None, *, replicas: int = 1, tp: int = 4, servers: int = 2) -> Scenario:
    """One service that starts with `replicas` of `tp`; a pod takes 30 s to be Ready, telemetry is 5 s old."""
    trace = requests() if trace is None else trace
    policy = builders.policy(bounds=Bounds(1, 4, tensor_parallel=(4, 8)))
    service = Service(policy, BOTH, Want(KEY, tp, replicas), 8 * servers, trace)
    return Scenario(
        name="small",
        nodes=tuple(Node(f"gpu-{i}", 8, builders.H100) for i in range(servers)),
        services=(service,),
        truths=(BOTH,),
        domains=(),
        settings=decide.Settings(60.0, 30.0, 5.0),
        startup_s=STARTUP_S,
        telemetry_s=5.0,
        duration_s=float(trace.arrival_s[-1]),
        drain_s=120.0,
        trace="made up",
    )


@dataclasses.dataclass
class Scripted:
    """A system that asks for what it was told to, each want from its moment on; remembers what it was shown."""

    script: Mapping[float, Want]
    period_s: float = 5.0
    name: str = "scripted"
    caps_power: bool = False
    looks: list[Seen] = dataclasses.field(default_factory=list)

    def start(self, service: Service) -> Want:
        return service.start

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        self.looks.append(seen)
        due = [want for at_s, want in self.script.items() if at_s <= seen.now_s + 1e-9]
        return (due[-1],) if due else ()


# --- files and the command line ----------------------------------------------------------------------

POLICY: api.Manifest = {
    "apiVersion": "capstan.dev/v1alpha1",
    "kind": "ServingPolicy",
    "metadata": {"name": "chat", "namespace": "llm"},
    "spec": {
        "model": builders.LLM,
        "servedModelName": "chat",
        "slo": {"ttftMilliseconds": 2000, "tpotMilliseconds": 100, "percentile": 99},
        "bounds": {"minReplicas": 1, "maxReplicas": 4, "tensorParallel": [4]},
        "knobs": {"replicas": "Act", "tensorParallel": "Advise", "clock": "Act"},
        "targets": [
            {"tensorParallel": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}}
        ],
    },
}
FLEET: api.Manifest = {
    "apiVersion": "replay.capstan.dev/v1alpha1",
    "kind": "Fleet",
    "nodes": [{"name": "gpu", "count": 2, "gpuProduct": builders.H100, "gpus": 8}],
}
RUN: api.Manifest = {
    "apiVersion": "replay.capstan.dev/v1alpha1",
    "kind": "Run",
    "name": "small",
    "periods": "60,30,5",
    "startupSeconds": 30,
    "chunkTokens": 512,
    "systems": ["fixed"],
    "traces": [{"policy": "llm/chat", "source": "trace.csv"}],
}


def csv_of(trace: Requests) -> str:
    """The columns as a file of BurstGPT's layout: times in seconds."""
    rows = zip(trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    return "Timestamp,Request tokens,Response tokens\n" + "".join(f"{t:.6f},{p},{o}\n" for t, p, o in rows)


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """A folder with a scenario and its trace, and the command on it."""

    path: Path

    @property
    def out(self) -> Path:
        return self.path / "out"

    def write(self, name: str, text: str) -> Path:
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def scenario(self, *, policy: Json | None = None, fleet: Json | None = None, run: Json | None = None) -> Path:
        """Write the scenario, with fields of each document changed by path (`spec.bounds.maxReplicas`)."""
        documents = (
            api.changed(POLICY, policy or {}),
            api.changed(FLEET, fleet or {}),
            api.changed({**RUN, "traces": [{**RUN["traces"][0], "source": str(self.path / "trace.csv")}]}, run or {}),  # type: ignore[index]  # a literal above
        )
        return self.write("scenario.yaml", yaml.safe_dump_all(documents))

    def replay(self, *flags: str | Path, scenario: Path | None = None) -> Result:
        """Run the command into `out`."""
        path = scenario or self.path / "scenario.yaml"
        arguments = ["replay", "--scenario", path, "--out", self.out, *flags]
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    def report(self, *flags: str | Path) -> Json:
        """Run the command, which must end well, and return report.json."""
        found = self.replay(*flags)
        assert found.exit_code == 0, found.output
        read: Json = json.loads((self.out / "report.json").read_text())
        return read


def folder(path: Path, trace: Requests | None = None, **documents: Json) -> Folder:
    """Make a folder with `trace` and a scenario of it."""
    made = Folder(path)
    made.write("trace.csv", csv_of(requests() if trace is None else trace))
    made.scenario(**documents)
    return made


def slower(profile: Profile, ratio: float) -> Profile:
    """The same engine with weights that take `ratio` times as long to stream."""
    timing = dataclasses.replace(profile.timing, weights_s=profile.timing.weights_s * ratio)
    return dataclasses.replace(profile, timing=timing)
