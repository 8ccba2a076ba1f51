"""What an adapter says when the world does not: each adapter translates once, here are the words.

AdapterError
├── Unavailable   try again: unreachable, slow, overloaded (`retry_after_s` where the server said when)
├── Malformed     it answered, and not with what it should have
└── Refusal       it understood and will not
    ├── Rejected  validation or admission: the document must change
    ├── Conflict  the object moved on since it was looked at
    ├── NotFound  there is no such object
    └── Denied    our account may not (RBAC), or the process lacks the privilege (NVML)
"""

from __future__ import annotations


class AdapterError(Exception):
    """Anything that an adapter raises on purpose; the message names the fault and, where there is one, the fix."""


class Unavailable(AdapterError):  # noqa: N818 - the tree above: words, not "...Error"
    """No answer now; the same call may work later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Malformed(AdapterError):  # noqa: N818
    """An answer that is not what the protocol promises: HTML, truncated JSON, too large, impossible numbers."""


class Refusal(AdapterError):  # noqa: N818
    """An answer that says no; the same call gets the same answer."""


class Rejected(Refusal):
    """The document is wrong."""


class Conflict(Refusal):
    """The object is not at the version that was decided on."""


class NotFound(Refusal):
    """No such object."""


class Denied(Refusal):
    """No permission."""
