"""Run notebooks from the command line: `python -m align_utils.run 01_norms --profile smoke`."""

import sys

from align_utils.run.runner import main

if __name__ == "__main__":
    sys.exit(main())
