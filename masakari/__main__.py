"""python3 -m masakari: the controller."""

import sys

from masakari.main import main

sys.exit(main())
