"""What a person sees while the demo runs: a live panel on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rig.demo.looks import Look
from rig.demo.ticks import DomainTick, PolicyTick, Tick

PLAIN_EVERY_S = 5.0
REASONS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Served:
    """Requests of one policy so far: done, and done within the SLO."""

    done: int
    good: int

    def __str__(self) -> str:
        return f"{100 * self.good / self.done:.1f} % of {self.done:,}" if self.done else "no request yet"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that one frame shows."""

    phase: str
    duration_s: float
    tick: Tick
    look: Look
    served: dict[str, Served]
    notes: Sequence[str]


class Screen:
    """Shows scenes; `say` prints a line of the story above the panel. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last_plain_s = float("-inf")

    def say(self, text: str, *, style: str = "") -> None:
        """Print one line that stays."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def show(self, scene: Scene) -> None:
        """Show the newest scene."""
        if self._live is not None:
            self._live.update(panel(scene), refresh=True)
        elif (
            not self._last_plain_s <= scene.tick.t_s < self._last_plain_s + PLAIN_EVERY_S
        ):  # the clock restarts with the load
            self._last_plain_s = scene.tick.t_s
            self.say(plain(scene))

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def plain(scene: Scene) -> str:
    """Return a scene in one line."""
    parts = [f"{scene.tick.t_s:5.0f} s"]
    parts += [f"{d.domain} {d.draw_w / 1e3:.1f} of {d.budget_w / 1e3:.1f} kW {d.level}" for d in scene.tick.domains]
    for policy in scene.tick.policies:
        served = scene.served.get(policy.policy, Served(0, 0))
        parts.append(
            f"{policy.policy} {policy.arrival_rps:.1f}/s {policy.replicas_ready}/{policy.replicas_desired} ready "
            f"{_clock(policy.clock_cap_mhz)} {served} {policy.reason}"
        )
    return " | ".join(parts)


def panel(scene: Scene) -> RenderableType:
    """Return a scene as a panel."""
    parts: list[RenderableType] = [_domain(domain) for domain in scene.tick.domains]
    parts += [Text(), _policies(scene)]
    if scene.notes:
        parts += [Text(), *(Text(note, style="dim") for note in scene.notes[-REASONS_SHOWN:])]
    title = f"{scene.phase} · {max(scene.tick.t_s, 0):.0f} of {scene.duration_s:.0f} s"
    return Panel(Group(*parts), title=title, title_align="left", subtitle="watts are modelled", subtitle_align="right")


def _domain(domain: DomainTick) -> RenderableType:
    """Return watts against budget as a bar, with the level and the cap beside it."""
    ratio = domain.draw_w / domain.budget_w
    colour = "red" if ratio > 1 else "yellow" if domain.level not in {"Normal", "Disarmed"} else "green"
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=min(ratio, 1.0), width=36, complete_style=colour, finished_style=colour)
    watts = f"{domain.draw_w / 1e3:5.1f} of {domain.budget_w / 1e3:.1f} kW"
    cap = "" if domain.cap_mhz is None else f"low priority ≤ {domain.cap_mhz:.0f} MHz"
    row.add_row(Text(domain.domain, style="bold"), bar, Text(watts), Text(domain.level, style=colour), Text(cap))
    return row


def _policies(scene: Scene) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("policy", "req/s", "plan", "ready", "clock cap", "kW", "run", "wait", "within SLO", "reason"):
        table.add_column(name, justify="left" if name in {"policy", "plan", "reason"} else "right", no_wrap=True)
    plans = {look.policy: look.plan for look in scene.look.policies}
    for policy in scene.tick.policies:
        table.add_row(*_cells(policy, plans.get(policy.policy, ""), scene.served.get(policy.policy, Served(0, 0))))
    return table


def _cells(policy: PolicyTick, plan: str, served: Served) -> list[Text]:
    words = (
        policy.policy,
        f"{policy.arrival_rps:.1f}",
        plan or "none",
        f"{policy.replicas_ready}/{policy.replicas_desired}",
        _clock(policy.clock_cap_mhz),
        f"{policy.gpus_w / 1e3:.1f}",
        str(policy.running),
        str(policy.waiting),
        str(served),
        str(policy.reason),
    )
    return [Text(word) for word in words]


def _clock(cap_mhz: float | None) -> str:
    return "no cap" if cap_mhz is None else f"{cap_mhz:.0f} MHz"
