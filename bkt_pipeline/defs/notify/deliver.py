"""Delivers messages to the receivers in BKT_NOTIFY, and requests the address in BKT_HEARTBEAT.

Nothing here raises an error or takes longer than `SECONDS`: a receiver that is down costs a night nothing. Problems are
returned in words without the receivers' URLs, which contain their secrets.
"""

import logging
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any
from urllib.error import HTTPError

from pydantic import SecretStr

from bkt_pipeline.defs.notify.message import Message
from bkt_pipeline.errors import install_extra
from bkt_pipeline.settings import settings

SECONDS = 15  # for all receivers together
MISSING = f"the package apprise is missing; {install_extra('notify')}"
UNKNOWN = "Apprise does not accept its URL"

Send = Callable[[], str | None]


def deliver(message: Message | None, *, heartbeat: bool = False) -> str | None:
    """Send the message, if there is one, to every receiver, and request the heartbeat if asked; returns what went wrong.

    The result is one line, or None if everything was delivered.
    """
    sends: dict[str, Send] = {}
    if message is not None:
        sends |= {name: _sending(url, message) for name, url in receivers().items()}
    if heartbeat and settings().heartbeat is not None:
        sends["BKT_HEARTBEAT"] = _request_heartbeat
    problems = _all_at_once(sends)
    return (
        f"not delivered: {'; '.join(f'{who}: {why}' for who, why in problems.items())}" if problems else None
    )


def receivers() -> dict[str, SecretStr]:
    """The receivers in BKT_NOTIFY by a name that contains no secret."""
    given = settings().notify
    urls = given.get_secret_value().split() if given is not None else []
    return {
        f"receiver {number} of {len(urls)} in BKT_NOTIFY ({_scheme(url)})": SecretStr(url)
        for number, url in enumerate(urls, start=1)
    }


def unusable_receivers() -> dict[str, str]:
    """The receivers that cannot be used, with the reasons; sends nothing."""
    if find_spec("apprise") is None:
        return dict.fromkeys(receivers(), MISSING)
    return {name: UNKNOWN for name, url in receivers().items() if not _apprise(url)}


def _scheme(url: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://", url)
    return found[1] if found else "not a URL"


def _apprise(url: SecretStr) -> Any:
    """Apprise with this receiver; false if it does not accept the URL."""
    import apprise

    # Its log quotes URLs.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    # Not asynchronous: it would start threads that keep the process from ending.
    found = apprise.Apprise(asset=apprise.AppriseAsset(app_id="bkt_pipeline", async_mode=False))
    found.add(url.get_secret_value())
    return found


def _sending(url: SecretStr, message: Message) -> Send:
    if find_spec("apprise") is None:
        return lambda: MISSING

    def send() -> str | None:
        import apprise

        receiver = _apprise(url)
        if not receiver:
            return UNKNOWN
        sent = receiver.notify(
            title=message.title,
            body=message.body,
            notify_type=apprise.NotifyType(message.kind),
            body_format=apprise.NotifyFormat.TEXT,
        )
        return None if sent else "it did not accept the message"

    return send


def _request_heartbeat() -> str | None:
    address = settings().heartbeat
    if address is not None:
        with urllib.request.urlopen(address.get_secret_value(), timeout=SECONDS) as answer:
            answer.read(1)
    return None


def _all_at_once(sends: Mapping[str, Send]) -> dict[str, str]:
    """What went wrong with each; one that has not ended in time is left behind."""
    problems = dict.fromkeys(sends, f"no answer within {SECONDS} s")

    def attempt(name: str, send: Send) -> None:
        try:
            problem = send()
        except HTTPError as error:
            with error:
                problem = f"HTTP status {error.code}"
        except Exception as error:
            # The text of the error may quote the URL.
            problem = type(error).__name__
        if problem:
            problems[name] = problem
        else:
            problems.pop(name, None)

    # Daemons, so that a receiver that never answers does not keep the process from ending.
    threads = [threading.Thread(target=attempt, args=each, daemon=True) for each in sends.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(problems)
