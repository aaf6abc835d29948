"""The log: one line per record, to standard error or a file, without any secret in it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Collection

from masakari.common.errors import ConfigError

SHORTEST_SECRET = 4
# Control characters would let a caller forge lines, and terminals obey them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_JOURNAL_PRIORITY = {
    logging.DEBUG: "<7>",
    logging.INFO: "<6>",
    logging.WARNING: "<4>",
    logging.ERROR: "<3>",
    logging.CRITICAL: "<2>",
}


class Redactor:
    """Replaces secrets in text by ***, also when they are escaped as in JSON, in a URL or by repr."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._spellings: set[str] = set()

    def hide(self, *secrets: str) -> None:
        """Secrets to replace from now on. Those of less than 4 characters stay: every line would be stars."""
        import json  # neither is needed by a program without secrets
        from urllib.parse import quote

        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                plain = str(secret)
                self._spellings |= {plain, json.dumps(plain)[1:-1], quote(plain, safe=""), repr(plain)[1:-1]}
        self._pattern = re.compile(_alternatives(self._spellings)) if self._spellings else None

    def clean(self, text: str) -> str:
        """The text without secrets."""
        return self._pattern.sub("***", text) if self._pattern else text


def _alternatives(words: Collection[str], grouped: int = SHORTEST_SECRET - 1) -> str:
    """A pattern of these words, the longest first, grouped by their first characters.

    A pattern tries its alternatives one by one at each character: with the keys of a thousand hosts, every line would cost
    as much as storing the report it tells of.
    """
    if not grouped:
        return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault(word[0], []).append(word[1:])
    return "|".join(f"{re.escape(first)}(?:{_alternatives(rest, grouped - 1)})" for first, rest in groups.items())


class OneLine(logging.Formatter):
    """A record as one line: time with UTC offset, level, logger, message, and the traceback joined by " | ".

    The journal has times and levels of its own: there the line begins with the number of the level only.
    """

    def __init__(self, redactor: Redactor, *, journal: bool = False) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._redactor = redactor
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line, with neither secrets nor control characters in it."""
        text = self._redactor.clean(super().format(record)).rstrip("\n").replace("\n", " | ")
        text = _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)
        if self._journal:
            return _JOURNAL_PRIORITY.get(record.levelno, "<6>") + text
        return f"{self.formatTime(record)} {text}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """ISO 8601 in local time: 2026-11-21T12:04:05.678+09:00."""
        local = time.localtime(record.created)
        offset = time.strftime("%z", local)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{int(record.msecs):03d}{offset[:3]}:{offset[3:]}"


def setup(level: str, file: str = "", *, debug: bool = False, redactor: Redactor | None = None) -> None:
    """Send every record of at least that level to the file, or to standard error; may be called again.

    level is one of debug, info, warning, error, critical; debug goes before it. A file that was moved away is
    made anew at the next record. ConfigError when the file can't be opened; the log is then as it was.
    """
    handler = _file_handler(file) if file else _Stderr()
    handler.setFormatter(OneLine(redactor or Redactor(), journal=not file and _stderr_is_journal()))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else level.upper())
    # Without --debug these two tell of each retry and each queued request; what matters of it is said by us.
    for chatty in ("urllib3", "waitress.queue"):
        logging.getLogger(chatty).setLevel(logging.NOTSET if debug else logging.ERROR)


class _Stderr(logging.StreamHandler):
    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def handleError(self, record: logging.LogRecord) -> None:
        _say_lost(record)


def _file_handler(file: str) -> logging.Handler:
    from logging.handlers import WatchedFileHandler  # brings sockets and pickle along

    class LogFile(WatchedFileHandler):
        """A disk that is full or a folder that is gone must not stop what is being logged."""

        def emit(self, record: logging.LogRecord) -> None:
            try:
                super().emit(record)
            except OSError:
                self.handleError(record)

        def handleError(self, record: logging.LogRecord) -> None:
            _say_lost(record)

    try:
        return LogFile(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError([f"the log file {file} can't be opened: {error.strerror}"]) from None


def _say_lost(record: logging.LogRecord) -> None:
    """In place of logging's own report, which would show the arguments, secrets included."""
    error = sys.exc_info()[1]
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"a log record of {record.pathname}:{record.lineno} is lost: {type(error).__name__}\n")


def _stderr_is_journal() -> bool:
    """Whether systemd connected standard error to the journal (and nothing redirected it since)."""
    try:
        stderr = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}"
