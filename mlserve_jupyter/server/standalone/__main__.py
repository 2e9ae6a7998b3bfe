"""``python -m mlserve_jupyter.server.standalone``: the same as ``jupyter mlserve``."""

import sys

from mlserve_jupyter.server.standalone.application import main

if __name__ == "__main__":
    sys.exit(main())
