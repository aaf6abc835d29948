"""The controller's HTTP server with nothing behind it: python3 -m tests.bench.empty PORT"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from masakari.api import make_server

BODY = b'{"recovery": 1, "status": "new", "reason": "", "known": false}\n'


def handle(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer at once."""
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])
    return [BODY]


if __name__ == "__main__":
    make_server(handle, "127.0.0.1", int(sys.argv[1])).run()  # type: ignore[arg-type]
