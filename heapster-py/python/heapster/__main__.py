"""``python -m heapster``: the program ``heapster``, with the same verbs and flags."""

import sys

from . import _heapster


def main() -> int:
    """Run the program with the arguments of this process."""
    return _heapster.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
