"""`python -m rig.demo`."""

from rig.demo.command import command

command()
