"""Reports on their way as notifications: signed in at Keystone, to the instance-ha service of its catalog."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from masakari.common import instance_ha, post
from masakari.common.errors import Unavailable
from masakari.common.openstack_conf import Api
from masakari.common.post import Answer
from masakari.common.poster import TAKEN, UNANSWERED, Sent
from masakari.common.sign_in import Post, SignIn, Token

log = logging.getLogger(__name__)

NEEDS_THE_REPORT = "not sent on: nothing is to be done about it, which a service that takes no report along can't know"


class Notifications:
    """Sends reports to the instance-ha service; timeout_s: what each request of a try may take, of which there are five at most."""

    def __init__(self, sign_in: SignIn, api: Api, timeout_s: float, ask: Post = post.post) -> None:
        self._sign_in = sign_in
        self._api = api
        self._timeout_s = timeout_s
        self._ask = ask

    def send(self, body: Mapping[str, Any]) -> Sent:
        """Sign in if need be, and post; once more with a new token if this one is refused."""
        try:
            token = self._sign_in.token(self._api, self._timeout_s)
            note = instance_ha.notification(body)
            answer = self._post(token, note)
            if answer.status == instance_ha.UNAUTHORIZED:
                token = self._sign_in.token(self._api, self._timeout_s, refused=token.value)
                answer = self._post(token, note)
            if instance_ha.knows_no_report(answer):
                plain = instance_ha.without_report(body)
                if plain is None:
                    return Sent(TAKEN, answer={"reason": NEEDS_THE_REPORT})
                log.warning(
                    "%s takes no report along with a notification: of %s it gets neither evidence nor id, and decides by "
                    "host_status alone. It said: %s",
                    token.url,
                    body["id"],
                    instance_ha.fault(answer),
                )
                answer = self._post(token, plain)
        except Unavailable as error:
            return Sent(UNANSWERED, str(error))
        sent = instance_ha.outcome(token.url, answer)
        return Sent(sent.end, sent.why.replace(token.value, "***"), sent.answer)

    def _post(self, token: Token, note: Mapping[str, Any]) -> Answer:
        headers = {"X-Auth-Token": token.value, **instance_ha.VERSION}
        data = json.dumps(note).encode()
        url, cafile = f"{token.url}/notifications", self._api.cafile
        return self._ask(url, data, headers, self._timeout_s, cafile, post.MOST_BYTES)
