"""Ten thousand generated callbacks against the real store: never a 5xx, and never a row for a refused one."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masakari.api import Answer, Api, make_app
from masakari.common.clock import Clock
from masakari.common.notification import Notification, Receipt
from masakari.config import Db, Settings
from masakari.database import Database, open_database
from masakari.failures import classify
from masakari.intake import Intake
from masakari.intake_host import Item
from masakari.metrics import Metrics
from tests.unit.test_intake_generated import bodies, generated, header_of, signatures
from tests.unit.test_signature import KEYS, NOW


class StoppedClock(Clock):
    """The signatures of the generated callbacks are of one moment."""

    def now(self) -> float:
        return NOW


class DirectIntake:
    """The real intake without its thread: each report is a transaction of its own."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._intake = Intake(db, clock, Settings, lambda: KEYS, lambda: None)

    def submit(self, notification: Notification, trusted: bool, key_id: str | None, receipt: float) -> Receipt:
        """As the threaded one."""
        return self._intake.accept([Item(notification, classify(notification), trusted, key_id, receipt)])[0]


def post(app: Api, body: bytes, signature: str | None) -> tuple[int, dict[str, Any]]:
    started: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    if signature is not None:
        environ["HTTP_X_MASAKARI_SIGNATURE"] = signature
    answer = b"".join(app(environ, lambda status, headers: started.append(status)))
    return int(started[0][:3]), json.loads(answer)


def nobody(environ: dict[str, Any]) -> Answer:
    """No request of this test is one for the API of OpenStack."""
    raise AssertionError(environ["PATH_INFO"])


def test_no_generated_callback_is_a_server_error_or_a_row_it_should_not_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = StoppedClock()
    db = open_database(Db(drivername="sqlite", name=str(tmp_path / "vm_ha.sqlite")), clock)
    intake = DirectIntake(db, clock)
    apps = {
        mode: make_app(intake, lambda: (True, {}), Metrics(), KEYS, mode, clock, lambda host, up_s: (True, ""), nobody)
        for mode in ("signed", "hold", "open")
    }
    accepted: set[str] = set()
    answers = dict.fromkeys((200, 400, 401, 403, 413), 0)
    logging.getLogger("masakari").setLevel(logging.ERROR)

    def stored() -> set[str]:
        return {row["report_key"] for row in db.read(lambda tx: tx.all("report_list", many=1_000_000))}

    @generated(10_000)
    @given(bodies, signatures, st.sampled_from(["open", "open", "hold", "signed"]))
    def check(body: bytes, signature: str | None, mode: str) -> None:
        status, answer = post(apps[mode], body, header_of(signature, body))
        answers[status] += 1
        if status == 200:
            accepted.add(json.loads(body)["id"])
        else:
            assert answer["error"], "a refusal says what is wrong"

    check()
    logging.getLogger("masakari").setLevel(logging.NOTSET)
    assert stored() == accepted
    assert min(answers.values()) > 20, f"the cases must reach every answer: {answers}"
    assert "Traceback" not in caplog.text
