"""`capstan operator|power|agent|setter|replay|crds …`: one console script, one process per command.

A command's module is imported when the command is asked for, so that the extras of one (pynvml, matplotlib) are not
needed by another, and so that `capstan operator` stays small.
"""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType

import click

import capstan

# name: (module, attribute, one line for `capstan --help`, which must not import anything)
COMMANDS = {
    "agent": ("capstan.app.agent", "agent_command", "Report a node's watts and hold its leases (non-root)."),
    "crds": ("capstan.app.crds", "command", "Write the custom resource definitions and their page."),
    "experiment": ("capstan.app.experiment", "command", "Play one question of the docs again, with intervals."),
    "forecast": ("capstan.app.forecast", "command", "Forecast a trace as it goes; judge what came true."),
    "gen": ("capstan.app.gen", "command", "Write everything in the repository that is generated."),
    "lengths": ("capstan.app.lengths", "command", "Say how well answers' lengths can be told on a trace."),
    "operator": ("capstan.app.operator", "command", "Watch ServingPolicies; decide and actuate."),
    "power": ("capstan.app.power.command", "command", "Watch PowerDomains; keep racks inside their budgets."),
    "profile": ("capstan.app.profile", "command", "Fit, estimate and question the physics of an LLM on a GPU."),
    "replay": ("capstan.app.replay", "command", "Run the same decisions on a trace, in virtual time."),
    "search": ("capstan.app.search", "command", "Find the best set-up that never moves, for a trace."),
    "setter": ("capstan.app.setter", "setter_command", "Write a node's GPU clocks and limits (root)."),
    "study": ("capstan.app.study", "command", "What clock, tp, batch and class do to energy; what papers say of it."),
    "trace": ("capstan.app.trace", "command", "Describe a trace of requests, or draw one like it."),
}


class Lazy(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands, in order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import a command; a missing extra is one clear sentence."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        try:
            found = getattr(_imported(module), attribute)
        except ModuleNotFoundError as missing:
            if (missing.name or "").startswith("capstan"):
                raise  # ours is never missing for want of an extra
            raise click.ClickException(
                f"`capstan {cmd_name}` needs the Python package {missing.name}, which is not installed: "
                f"pip install 'capstan[{_extra(cmd_name)}]'"
            ) from missing
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}.{attribute} is not a click command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in sorted(COMMANDS.items())])


def _imported(module: str) -> ModuleType:
    """Import a command's module, and leave what that makes out of every later garbage collection: it is there to stay.

    A tenth of a replay of one hour went into walking it again and again.
    """
    if module in sys.modules:
        return sys.modules[module]
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()
        gc.freeze()


def _extra(command: str) -> str:
    extras = {
        "agent": "agent",
        "setter": "agent",
        "experiment": "replay",
        "lengths": "replay",
        "forecast": "replay",
        "profile": "replay",
        "replay": "replay",
        "search": "replay",
        "study": "replay",
        "trace": "replay",
    }
    return extras.get(command, "dev")


@click.group(cls=Lazy, context_settings={"auto_envvar_prefix": "CAPSTAN", "help_option_names": ["-h", "--help"]})
@click.version_option(capstan.__version__, prog_name="capstan")
def cli() -> None:
    """Capstan: latency objectives and power budgets of LLM serving in one decision."""


def main() -> None:
    """Run the console script."""
    cli(prog_name="capstan")


if __name__ == "__main__":
    main()
