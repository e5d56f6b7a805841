"""``python -m heapster``: the program ``heapster``, with the same verbs and flags."""

import signal
import sys

from . import _heapster


def main() -> int:
    """Run the program with the arguments of this process."""
    # Python's own handler waits for the program to end; `serve` installs one that stops in order.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _heapster.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
