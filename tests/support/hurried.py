"""`python -m support.hurried …`: `capstan agent` or `setter` whose waits take a fifth, and whose deadlines are as ever.

For tests that let a whole node live. What waits (turns, settling, looks, retries) is physics or calm that the fake
driver does not need; what bounds a call (driver, setter, HTTP) stays, so that a busy machine fails nobody.
"""

from __future__ import annotations

from capstan.__main__ import main
from capstan.agent import cycle, joining, limits, sampling, setter
from capstan.app import setter as setter_command

RATE = 5
WAITS = (
    (cycle, "PERIOD_S"), (joining, "SETTLED_S"), (sampling, "STEP_S"), (limits, "LOOSEN_S"), (setter, "RETRY_S"),
    (setter, "REASSERT_S"), (setter, "DISCOVER_S"), (setter_command, "LOOK_S"),
)  # fmt: skip

if __name__ == "__main__":
    for module, name in WAITS:
        setattr(module, name, getattr(module, name) / RATE)
    limits.WRITES *= RATE  # a second
    main()
