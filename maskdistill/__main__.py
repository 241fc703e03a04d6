"""``python -m maskdistill STAGE ...`` is ``maskdistill STAGE ...``."""

import sys

from maskdistill.cli import main

if __name__ == "__main__":
    sys.exit(main())
