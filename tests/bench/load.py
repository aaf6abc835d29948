"""Load from this process, with little work per request: prebuilt requests on open sockets, one in flight on each."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of load showed; the warm-up is not in it."""

    per_s: float
    p99_s: float
    worst_s: float
    refused: int
    """Answers that were not what they should be."""


Whole = Callable[[bytes], bool | None]
"""Whether this is a whole answer: None not yet, True a good one, False another one."""


def run(
    sockets: Sequence[socket.socket], requests: Iterator[bytes], whole: Whole, seconds: float, warm_up_s: float
) -> Load:
    """Send on every socket, wait for its answer, send the next; for so long, or until there are no more requests."""
    poll = select.epoll()
    by_fd = {link.fileno(): link for link in sockets}
    sent_at: dict[int, float] = {}
    answers: dict[int, bytes] = {}
    took: list[float] = []
    refused = 0
    for fd, link in by_fd.items():
        link.settimeout(10)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(fd, select.EPOLLIN)
        sent_at[fd], answers[fd] = time.perf_counter(), b""
        link.sendall(next(requests))
    count_from = time.perf_counter() + warm_up_s
    stop_at = count_from + seconds
    last = count_from
    while sent_at:
        for fd, _ in poll.poll(10):
            answers[fd] += by_fd[fd].recv(65536)
            good = whole(answers[fd])
            if good is None:
                continue
            last = time.perf_counter()
            if sent_at[fd] >= count_from:
                took.append(last - sent_at[fd])
                refused += not good
            following = next(requests, None) if last < stop_at else None
            if following is None:
                del sent_at[fd]
                continue
            answers[fd], sent_at[fd] = b"", last
            by_fd[fd].sendall(following)
    took.sort()
    return Load(len(took) / (last - count_from), took[int(len(took) * 0.99)], took[-1], refused)


def http_post(body: bytes, *headers: tuple[str, str]) -> bytes:
    """A request as it goes over the wire."""
    head = ["POST / HTTP/1.1", "Host: bench", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join((*head, "", "")).encode() + body


def http_whole(answer: bytes) -> bool | None:
    """Of an HTTP answer with a Content-Length: good is 200."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return None if len(body) < length else head.startswith(b"HTTP/1.1 200")


def sql_query(statement: str) -> bytes:
    """A statement as it goes over the wire to MariaDB."""
    payload = b"\x03" + statement.encode()
    return struct.pack("<I", len(payload)) + payload


def sql_whole(answer: bytes) -> bool | None:
    """Of MariaDB's one packet for a statement without rows: good is OK."""
    if len(answer) < 5 or len(answer) < 4 + int.from_bytes(answer[:3], "little"):
        return None
    return answer[4] == 0
