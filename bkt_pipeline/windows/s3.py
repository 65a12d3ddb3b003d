"""Windows on S3: one Parquet object a partition, committed by one put.

::

    <prefix>/windows/data/<skill>/<as_of>-<run>-<token>.parquet    the window
    <prefix>/windows/heads/<skill>.json                            which of these it is, and as of when

A window is first written under a key of its own, which nobody reads. One put of the skill's head, a few
hundred bytes, then makes it the skill's window, on the condition that the head is still the one that was
looked at: of two runs at once one is told to look again, and the newer as_of stands. So a reader finds the
last window that was committed, whole; a run that dies before its put has changed nothing. What it leaves
behind is never read, and `prune` deletes it after a day.
"""

import datetime as dt
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from bkt_pipeline.errors import InvalidSettings, WindowStoreUnavailable, WindowUnusable
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.parquet import decode, encode

T = TypeVar("T")

AT_ONCE = 16  # requests under way; each waits for the network far longer than it works
TRIES = 20  # how often another run may be faster
LEFT_BEHIND = dt.timedelta(days=1)  # no run goes on so long: what has no head by then never gets one
LONGEST_PREFIX = 700  # bytes, of the 1,024 that a key has; our own part of it is short
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict")
MISSING = ("NoSuchKey", "404")
REFUSED = (
    "AccessDenied",
    "403",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
)
ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "301")


def place_of(url: str) -> tuple[str, str]:
    """Bucket and prefix of s3://bucket/prefix; the prefix may be missing.

    Raises
    ------
    InvalidSettings
        It is no such thing. It is not quoted: somebody may have put a key in it.
    """
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^?#@]*))?", url)
    prefix = (found[2] or "").strip("/") if found else ""
    if found is None or len(prefix.encode()) > LONGEST_PREFIX:
        raise InvalidSettings(
            "ATTEMPT_WINDOW_STORE cannot be read; expected s3://bucket/prefix, without keys or options in it and "
            f"with a prefix of at most {LONGEST_PREFIX} bytes (where it is not set, windows are kept in Postgres)"
        )
    return found[1], prefix


def name_of(skill_id: str) -> str:
    """What the skill is called in a key: short, safe in every tool, and no other skill is called so."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", skill_id)[:40].strip("-")
    return f"{readable}-{hashlib.sha256(skill_id.encode()).hexdigest()}"


@dataclass(frozen=True)
class Head:
    """Which object is the skill's window; nothing of a student is in it."""

    skill_id: str
    as_of: str
    window_days: int
    attempts: int
    students: int
    ungraded: int
    run_id: str
    object: str

    @property
    def moment(self) -> dt.datetime:
        return dt.datetime.fromisoformat(self.as_of)


@dataclass(frozen=True)
class Standing:
    """A head as it was found, with the tag that tells it from every later one."""

    head: Head
    etag: str


class S3Windows:
    """The windows below s3://bucket/prefix; a `WindowStore`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.location = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        root = f"{prefix}/windows" if prefix else "windows"
        self._heads, self._data = f"{root}/heads/", f"{root}/data/"
        limits = Config(
            max_pool_connections=AT_ONCE,
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 5},
        )
        with self._trouble_told():
            # A session of its own: the one that a process shares keeps the credentials that it found first.
            self._s3 = boto3.Session().client("s3", config=limits)

    def store(self, windows: Mapping[str, AttemptWindow], run_id: str) -> Iterator[tuple[str, Exception]]:
        """Store the windows; yields each that could not be stored, and why."""
        for key, done in self._each(sorted(windows), lambda key: self.store_one(windows[key], run_id)):
            if isinstance(done, Exception):
                yield key, done

    def load(self, keys: Sequence[str]) -> dict[str, AttemptWindow | Exception]:
        """The stored window of each skill, or why it cannot be read; one that was never stored is not in the result."""
        return {key: window for key, window in self._each(keys, self._load_one) if window is not None}

    def prune(self, since: dt.date) -> int:
        """Delete the windows as of an earlier day, and what has been left behind; says how many windows went."""
        with self._trouble_told():
            heads = [item["Key"] for item in self._list(self._heads)]
            data = list(self._list(self._data))
        went = 0
        for _, done in self._each(heads, lambda key: self._prune_one(key, since)):
            if isinstance(done, Exception):
                raise done
            went += done
        self._sweep(data)
        return went

    def look(self) -> str:
        """Where that is, once it has been seen that it can be read."""
        with self._trouble_told():
            self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._heads, MaxKeys=1)
        return f"{self.location}, which can be read (ATTEMPT_WINDOW_STORE)"

    def store_one(self, window: AttemptWindow, run_id: str) -> bool:
        """Make this the skill's window, unless a newer one is stored; says whether it did."""
        name, token = name_of(window.skill_id), uuid.uuid4().hex[:8]
        head_key = f"{self._heads}{name}.json"
        stamp = window.as_of.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
        head = _head_of(window, run_id, f"{self._data}{name}/{stamp}-{run_id}-{token}.parquet")
        standing = self._standing(head_key)
        if standing and standing.head.moment > window.as_of:
            return False
        self._put(head.object, encode(window), "application/vnd.apache.parquet")
        for _ in range(TRIES):
            if self._commit(head_key, head, standing):
                if standing:
                    self._delete(standing.head.object)
                return True
            standing = self._standing(head_key)
            if standing and standing.head.object == head.object:
                # It had arrived; only the answer was lost.
                return True
            if standing and standing.head.moment > window.as_of:
                self._delete(head.object)
                return False
        self._delete(head.object)
        raise WindowUnusable(f"other runs replaced {head_key} {TRIES} times meanwhile; run it again")

    def _commit(self, head_key: str, head: Head, standing: Standing | None) -> bool:
        """Put the head in the place of the standing one; not, if that is another one by now."""
        condition = {"IfMatch": standing.etag} if standing else {"IfNoneMatch": "*"}
        try:
            self._put(head_key, json.dumps(asdict(head)).encode(), "application/json", **condition)
        except ClientError as error:
            if _code(error) in (*CHANGED, *MISSING):
                return False
            raise
        return True

    def _load_one(self, skill_id: str) -> AttemptWindow | None:
        head_key = f"{self._heads}{name_of(skill_id)}.json"
        seen = None
        while True:
            standing = self._standing(head_key)
            if standing is None:
                return None
            if standing == seen:
                raise WindowUnusable(
                    f"{standing.head.object} is gone; materialise attempt_window for it again"
                )
            seen = standing
            body = self._get(standing.head.object)
            # Without a body another run has replaced it between the two requests: look again.
            if body is not None:
                window = decode(body[0], standing.head.object)
                if window.skill_id != skill_id:
                    raise WindowUnusable(f"{head_key} is of the skill {window.skill_id!r}; delete it")
                return window

    def _prune_one(self, head_key: str, since: dt.date) -> bool:
        standing = self._standing(head_key)
        if standing is None or standing.head.moment.astimezone(dt.UTC).date() >= since:
            return False
        try:
            self._s3.delete_object(Bucket=self._bucket, Key=head_key, IfMatch=standing.etag)
        except ClientError as error:
            if _code(error) in (*CHANGED, *MISSING):
                return False
            raise
        self._delete(standing.head.object)
        return True

    def _sweep(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Delete the objects that no head names and that are too old to get one."""
        long_ago = dt.datetime.now(dt.UTC) - LEFT_BEHIND
        old: dict[str, list[str]] = {}
        for item in data:
            if item["LastModified"] < long_ago:
                name = item["Key"].removeprefix(self._data).split("/")[0]
                old.setdefault(name, []).append(item["Key"])

        def sweep(name: str) -> None:
            standing = self._standing(f"{self._heads}{name}.json")
            for key in old[name]:
                if standing is None or key != standing.head.object:
                    self._delete(key)

        for _, done in self._each(sorted(old), sweep):
            if isinstance(done, Exception):
                raise done

    def _standing(self, head_key: str) -> Standing | None:
        found = self._get(head_key)
        if found is None:
            return None
        try:
            return Standing(Head(**json.loads(found[0])), found[1])
        except (ValueError, TypeError):
            raise WindowUnusable(
                f"{head_key} is no head of a window; delete it and materialise attempt_window for it again"
            ) from None

    def _get(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and its tag; None where there is none."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _code(error) in MISSING:
                return None
            raise
        return answer["Body"].read(), answer["ETag"]

    def _put(self, key: str, body: bytes, kind: str, **condition: str) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=kind, **condition)

    def _delete(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def _list(self, prefix: str) -> Iterator[Mapping[str, Any]]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            yield from page.get("Contents", [])

    def _each(self, keys: Sequence[str], work: Callable[[str], T]) -> Iterator[tuple[str, T | Exception]]:
        """Do the work for the keys, several at once; what one fails with comes in the place of its result.

        Raises
        ------
        WindowStoreUnavailable
            The trouble is one that every other key would meet too.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            started = {pool.submit(work, key): key for key in keys}
            try:
                for future in as_completed(started):
                    error = future.exception()
                    if error is None:
                        yield started[future], future.result()
                    elif isinstance(error, Exception):
                        if trouble := self._trouble(error):
                            raise trouble from None
                        yield started[future], error
            finally:
                pool.shutdown(cancel_futures=True)

    @contextmanager
    def _trouble_told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if trouble := self._trouble(error):
                raise trouble from None
            raise

    def _trouble(self, error: BaseException) -> WindowStoreUnavailable | None:
        """What is the matter and what to do, where it is the matter with the whole store."""
        if isinstance(error, ClientError):
            said = f"{_code(error)} at {error.operation_name}"
            if _code(error) == "NoSuchBucket":
                what = f"there is no bucket {self._bucket}; make it, or mend ATTEMPT_WINDOW_STORE"
            elif _code(error) in REFUSED:
                what = f"{said}; give the role of the run what deploy/aws/iam/run.json allows, on this bucket"
            elif _code(error) in ELSEWHERE:
                what = f"{said}; say the bucket's region in AWS_DEFAULT_REGION"
            else:
                return None
        elif isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
            what = f"{type(error).__name__}; run it under a role, or name credentials as the AWS command line takes them"
        elif isinstance(error, EndpointConnectionError | ConnectTimeoutError):
            what = "S3 cannot be reached; see whether the network lets it, through a NAT or an S3 endpoint"
        else:
            return None
        return WindowStoreUnavailable(f"windows cannot be kept at {self.location}: {what}")


def _head_of(window: AttemptWindow, run_id: str, key: str) -> Head:
    return Head(
        skill_id=window.skill_id,
        as_of=window.as_of.isoformat(),
        window_days=window.window_days,
        attempts=window.n_attempts,
        students=window.n_students,
        ungraded=window.ungraded,
        run_id=run_id,
        object=key,
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
