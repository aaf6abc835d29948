"""`python3 -m hostmonitor`."""

import sys

from hostmonitor.main import main

sys.exit(main())
