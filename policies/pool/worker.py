"""The program of a replica in a process of its own: frames in on standard input, frames out on standard output."""

from __future__ import annotations

import os
import signal
import sys

from policies.pool.serving import Serving


def main() -> None:
    """Serves until its input closes; then it ends at once, whatever the part does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's business
    outward = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    Serving(sys.stdin.buffer, outward)()
    os._exit(0)


if __name__ == "__main__":
    main()
