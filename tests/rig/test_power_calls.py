"""`python -m rig power calls`: many agents played, and what they cost the caller."""

from __future__ import annotations

import re

from click.testing import CliRunner

from rig import power_cli


def test_everybody_answers_and_the_cost_is_printed() -> None:
    answer = CliRunner().invoke(power_cli.power, ["calls", "--agents", "5", "--seconds", "1"])
    assert answer.exit_code == 0, answer.output
    found = re.fullmatch(
        r"5 agents of 8 GPUs, 1 s: (\d\.\d{3}) core, 100\.0% answered, slowest second \S+ s, (\d+) agents per core\n",
        answer.output,
    )
    assert found, answer.output
    assert 0 < float(found[1]) < 1
