"""When a message about a night is sent, and that each is sent once.

A message is claimed by a tag on the run that sends it, before it is sent. A retry of the run, a second summary of the
night or another failed shard finds the tag and sends nothing.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

import dagster as dg

from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.notify.deliver import deliver
from bkt_pipeline.defs.notify.message import Message, NightReport, failed_message, night_message
from bkt_pipeline.defs.tags import AS_OF_TAG, NIGHT_TAG, PART_TAG
from bkt_pipeline.errors import BktError
from bkt_pipeline.settings import settings

SUMMARY_SENT = "bkt/summary_sent"
FAILURE_SENT = "bkt/failure_sent"


def claim(
    instance: dg.DagsterInstance, installation: Installation, run_id: str, tag: str, as_of: str
) -> bool:
    """Whether this run is the first to send this kind of message about the night."""
    if instance.get_runs(dg.RunsFilter(tags={tag: as_of, **installation.tags}), limit=1):
        return False
    instance.add_run_tags(run_id, {tag: as_of})
    return True


def at_the_end(
    instance: dg.DagsterInstance, installation: Installation, run: dg.DagsterRun, report: NightReport
) -> str | None:
    """Send the night's message and request the heartbeat, if any skill was calibrated; returns what went wrong.

    Only a summary that belongs to a night does so. One that a person starts, or that follows `nightly --skill`, is quiet.
    """
    as_of = run.tags.get(AS_OF_TAG)
    if as_of is None or PART_TAG in run.tags:
        return None
    message = None
    if settings().notify is not None and claim(instance, installation, run.run_id, SUMMARY_SENT, as_of):
        page = "/".join(installation.key("nightly_summary").path)
        address = ui_url()
        message = named(installation, night_message(report, f"{address}/assets/{page}" if address else None))
    return deliver(message, heartbeat=report.calibrated > 0)


def at_once(
    instance: dg.DagsterInstance,
    installation: Installation,
    run: dg.DagsterRun,
    night: Mapping[str, str],
    what: str,
    reason: str,
) -> str:
    """Send the message about a night that failed; returns what became of it."""
    if settings().notify is None or PART_TAG in night:
        return "no message is due"
    if not claim(instance, installation, run.run_id, FAILURE_SENT, night[AS_OF_TAG]):
        return "reported before"
    message = failed(night[NIGHT_TAG], what, reason, run.run_id)
    return deliver(named(installation, message)) or "reported"


def command_failed(as_of: dt.datetime, error: Exception) -> str | None:
    """Send the message about a night of the command that failed as a whole; returns what went wrong."""
    # Only our own errors are known to quote neither a row nor a URL.
    reason = str(error) if isinstance(error, BktError) else f"unexpected {type(error).__name__}"
    return deliver(failed(as_of.astimezone(dt.UTC).date().isoformat(), "bkt-pipeline nightly", reason))


def failed(night: str, what: str, reason: str, run_id: str | None = None) -> Message:
    """The message about a night that failed, with the address of the failed run."""
    address = ui_url()
    return failed_message(night, what, reason, f"{address}/runs/{run_id}" if address and run_id else address)


def named(installation: Installation, message: Message) -> Message:
    """The message with the installation's prefix in its title, if it has one."""
    prefix = " ".join(installation.key_prefix)
    return replace(message, title=f"{prefix}: {message.title}") if prefix else message


def ui_url() -> str | None:
    """The address of the UI without a user name, password or slash at its end; None if it is not set."""
    address = settings().ui_url
    if address is None:
        return None
    parts = urlsplit(address.get_secret_value())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")
