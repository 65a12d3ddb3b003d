"""Reads many skills at once, so that a skill that cannot be read does not affect the others."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.ledger import SkillOutcome, record
from bkt_pipeline.db.platform import Source
from bkt_pipeline.db.retry import is_transient, sqlstate
from bkt_pipeline.db.safe_keys import LONGEST_ID, refused_as_partition
from bkt_pipeline.errors import SourceSchemaError, WindowUnusable

T = TypeVar("T")
log = logging.getLogger("bkt_pipeline")

LONGEST_SHOWN = 100
REFUSED_KEY = "Dagster refuses partition keys that are empty or contain control characters or '...'"

# Errors that one skill's data can cause: a value that does not convert, a view's function that fails, a damaged row.
_CLASSES_OF_DATA = ("21", "22", "P0", "XX")


def unusable_keys(source: Source, keys: Sequence[str]) -> dict[str, str]:
    """The keys that cannot be used in windows, the ledger or partitions, with the reasons.

    They are too long, not valid UTF-8, not a value of skills.id's type, or refused by Dagster.
    """
    found: dict[str, str] = {}
    for key in keys:
        try:
            size = len(key.encode())
            source.skill_ids([key])
        except UnicodeEncodeError:
            found[key] = "its id is not valid UTF-8"
        except SourceSchemaError as error:
            found[key] = str(error)
        else:
            if refused_as_partition(key):
                found[key] = REFUSED_KEY
            elif size > LONGEST_ID:
                found[key] = f"its id has {size:,} bytes; ids of up to {LONGEST_ID:,} bytes can be calibrated"
    return found


def shown_key(key: str) -> str:
    """A key for a log or a report: shortened in the middle, with invalid UTF-8 and control characters escaped."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in key)
    return (
        text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN // 2]}…{text[-LONGEST_SHOWN // 2 :]}"
    )


def record_failed(
    connection: Connection, rows: Sequence[SkillOutcome], run_id: str, *, rehearsal: bool = False
) -> None:
    """Record failed skills one by one, because the ledger cannot store every possible id."""
    for row in rows:
        try:
            with connection.begin_nested():
                record(connection, [row], run_id, rehearsal=rehearsal)
        except (DBAPIError, UnicodeError) as error:
            if isinstance(error, DBAPIError) and is_transient(error):
                raise
            log.warning(
                "skill %s failed: %s; the ledger cannot store its id", shown_key(row.skill_id), row.reason
            )


def read_isolated(
    connection: Connection,
    source: Source,
    keys: Sequence[str],
    read: Callable[[Sequence[str]], Mapping[str, T]],
) -> dict[str, T | WindowUnusable]:
    """The results of `read` for all keys. A key that cannot be read gets the reason instead of a result.

    If `read` fails because of the data, it is called again for each half of the keys, until the keys that cannot be
    read are isolated.
    """
    unusable = unusable_keys(source, keys)
    found: dict[str, T | WindowUnusable] = {key: WindowUnusable(why) for key, why in unusable.items()}
    found.update(_halved(connection, [key for key in keys if key not in unusable], read))
    return {key: found[key] for key in keys}


def _halved(
    connection: Connection, keys: Sequence[str], read: Callable[[Sequence[str]], Mapping[str, T]]
) -> dict[str, T | WindowUnusable]:
    if not keys:
        return {}
    try:
        with connection.begin_nested():
            return dict(read(keys))
    except (DBAPIError, UnicodeError, WindowUnusable) as error:
        if isinstance(error, DBAPIError) and not (sqlstate(error) or "").startswith(_CLASSES_OF_DATA):
            raise
        if len(keys) == 1:
            return {keys[0]: WindowUnusable(_in_words(error))}
    middle = len(keys) // 2
    return _halved(connection, keys[:middle], read) | _halved(connection, keys[middle:], read)


def _in_words(error: Exception) -> str:
    if isinstance(error, DBAPIError):
        # The message of a failed conversion quotes the value, which may be a student's data.
        return f"its attempts cannot be read (SQLSTATE {sqlstate(error)}); see the database's log"
    if isinstance(error, UnicodeError):
        return "an id among its attempts is not valid UTF-8, or the database's encoding cannot hold it"
    return str(error)
