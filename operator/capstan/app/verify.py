"""`capstan replay verify`: decides recorded files again and says whether live and replay agree.

Who calls it: a person after an incident, and CI. The rig's demo asks `replay.verify` itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from capstan.journal.codec import Unreadable
from capstan.replay import verify

BAD_INPUT, DIFFERS = 2, 3


@click.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
def command(files: tuple[Path, ...]) -> None:
    """Decide what `capstan operator --record FILE` recorded again; require the same decisions and memory.

    Each FILE stands alone, a rotated one (FILE.1) too; gz is read as it is. Exit codes: 0 all equal, 2 not a record or
    not a whole one, 3 a decision differs. A line that was cut off when the operator was killed is no error.
    """
    codes = {_verified(file) for file in files}
    sys.exit(BAD_INPUT if BAD_INPUT in codes else max(codes))


def _verified(file: Path) -> int:
    """Print the verdict on one file and return its exit code."""
    try:
        verdict = _shown(file)
    except Unreadable as problem:
        click.echo(f"capstan replay verify: {file}: {problem}", err=True)
        return BAD_INPUT
    click.echo(f"{file}: {verdict}")
    return 0 if verdict.first is None else DIFFERS


def _shown(file: Path) -> verify.Verdict:
    """Verify a file under a progress bar: 64 MiB take half a minute. Nothing is shown where nobody watches."""
    with click.progressbar(length=100, label=file.name, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        return verify.of_file(file, lambda share: bar.update(int(100 * share) - bar.pos))
