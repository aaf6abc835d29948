"""`python3 -m instancemonitor`."""

import sys

from instancemonitor.main import main

sys.exit(main())
