"""Serve a simulated cloud until interrupted: python3 -m tests.simcloud --port 8774 --hosts c1,c2"""

from __future__ import annotations

import argparse
import signal
import threading

from masakari.common.clock import Clock

from .cloud import SimulatedCloud


def main() -> None:
    """Print the URL on the first line, then serve."""
    options = _parser().parse_args()
    cloud = SimulatedCloud(
        Clock(),
        options.hosts.split(","),
        api_latency_s=options.latency_ms / 1000,
        seed=options.seed,
        versions=("2.1", options.max_version),
        evacuate_s=options.evacuate_s,
        settle_s=options.settle_s,
        builds_at_once=options.builds,
        stop_s=options.stop_s,
        start_s=options.start_s,
        service_down_s=options.service_down_s,
        report_s=options.report_s,
        shared_storage=not options.local_storage,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with cloud.serve(options.port, options.address) as server:
        print(server.url, flush=True)
        stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.simcloud", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--address", default="127.0.0.1", help="to listen on")
    parser.add_argument("--hosts", default="compute1,compute2,compute3", help="names, separated by commas")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="what each call costs")
    parser.add_argument("--evacuate-s", type=float, default=2.0, help="what one evacuation takes")
    parser.add_argument(
        "--settle-s", type=float, default=0.9, help="of it, at most so long ACTIVE on the old host"
    )
    parser.add_argument(
        "--builds", type=int, default=10, help="evacuations at a time per target; 0 = no limit"
    )
    parser.add_argument("--stop-s", type=float, default=1.0)
    parser.add_argument("--start-s", type=float, default=1.0)
    parser.add_argument("--service-down-s", type=float, default=60.0)
    parser.add_argument("--report-s", type=float, default=10.0)
    parser.add_argument("--max-version", default="2.93", help="Nova's highest microversion")
    parser.add_argument("--local-storage", action="store_true", help="instances' disks are not shared")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
