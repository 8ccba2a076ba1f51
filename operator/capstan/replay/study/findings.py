"""Every statement that a study judges, in the order of the paper's table (facts/dynamollm.md sections 4 and 1).

Who calls it: `app.study`. Must not know: how a finding is printed.
"""

from __future__ import annotations

from capstan.replay.study import finding, on_class, on_clock, on_load, on_tp
from capstan.replay.study.finding import Finding, Statement
from capstan.replay.study.survey import Study

STATEMENTS: tuple[Statement, ...] = (*on_clock.STATEMENTS, *on_class.STATEMENTS, *on_load.STATEMENTS, *on_tp.STATEMENTS)


def of(study: Study) -> tuple[Finding, ...]:
    """Judge everything."""
    return tuple(finding.of(statement, study) for statement in STATEMENTS)
