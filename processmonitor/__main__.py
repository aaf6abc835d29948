"""`python3 -m processmonitor`."""

import sys

from processmonitor.main import main

sys.exit(main())
