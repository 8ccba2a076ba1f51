"""Become another program that dies with its parent: `python launch.py PARENT_PID PROGRAM ARG…`.

Run by `rig.process` as a file of its own, before anything else is imported, so that it costs 15 ms. The kernel keeps
the death signal over `exec`, which is why a wrapper can ask for it on behalf of etcd or the API server.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Ask the kernel for SIGKILL on the parent's death, then exec."""
    parent = int(sys.argv[1])
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request took effect
        sys.exit(1)
    try:
        os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()
