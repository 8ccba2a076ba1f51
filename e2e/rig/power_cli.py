"""`python -m rig power …`: what the live side of power costs and how fast it is. One command per file."""

from __future__ import annotations

import click


@click.group("power")
def power() -> None:
    """Print figures of `capstan power` and its agents."""


@power.command("step", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def step_command(args: tuple[str, ...]) -> None:
    """Print what one tick of the power machine costs over many domains, in milliseconds."""
    from rig.power_cost import command  # the operator's packages are not needed to start a rig

    command.main(args=list(args), prog_name="rig power step")


@power.command("row", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def row_command(args: tuple[str, ...]) -> None:
    """Print how long weeks of a row of servers take on one core."""
    from rig.power_row import command  # as above

    command.main(args=list(args), prog_name="rig power row")


@power.command("proof", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def proof_command(args: tuple[str, ...]) -> None:
    """Play the live proof of power domains: what true watts did while everything was killed, cut and stopped."""
    from rig.proof.command import command  # the operator's packages are not needed to start a rig

    command.main(args=list(args), prog_name="rig power proof")


@power.command("calls", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def calls_command(args: tuple[str, ...]) -> None:
    """Print what the 1 s call to many agents costs, in cores."""
    from rig.power_calls import command  # the operator's packages are not needed to start a rig

    command.main(args=list(args), prog_name="rig power calls")
