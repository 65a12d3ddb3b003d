"""Windows on S3: one Parquet object per skill, `<prefix>/windows/<skill>.parquet`, replaced by one conditional put.

The object's metadata holds its as_of and a token that is unique to each put; everything else is in the file. A put
succeeds only if the object has not changed since it was checked (If-Match), or is still missing (If-None-Match).
Otherwise the store checks again, so the newer as_of of two concurrent runs wins. A reader always gets the complete
window that was committed last. If the answer to a put is lost, the token shows whether the put arrived.

On a bucket with versioning, a lifecycle rule must expire old versions, because `prune` and `forget` delete only
current ones.
"""

import datetime as dt
import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from bkt_pipeline.db.clock import CLOCK_TOLERANCE
from bkt_pipeline.errors import InvalidSettings, WindowOvertaken, WindowUnusable
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.parquet import decode, encode
from bkt_pipeline.windows.s3_errors import CHANGED, MISSING, code_of, explain
from bkt_pipeline.windows.store import StoredWindow, WindowStore

T = TypeVar("T")

MAX_IN_FLIGHT = 16  # concurrent requests; each mostly waits for the network
MAX_TRIES = 20  # how often another run may replace the object first
MAX_PREFIX = 700  # bytes, of the 1,024 that a key may have; our part of the key is short
WINDOW_NAME = r"[A-Za-z0-9-]*-[0-9a-f]{64}\.parquet"
EARLIER_LAYOUT = ("heads/", "data/")  # folders of versions before 0.1.0


def parse_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of s3://bucket/prefix; the prefix may be missing.

    Raises
    ------
    InvalidSettings
        The URL has another form. The message does not quote it, because it may contain a secret key.
    """
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^?#@]*))?", url)
    prefix = (found[2] or "").strip("/") if found else ""
    if found is None or len(prefix.encode()) > MAX_PREFIX:
        raise InvalidSettings(
            "ATTEMPT_WINDOW_STORE cannot be read; expected s3://bucket/prefix, without keys or options in it and "
            f"with a prefix of at most {MAX_PREFIX} bytes (if it is not set, windows are kept in Postgres)"
        )
    return found[1], prefix


def object_name(skill_id: str) -> str:
    """A short, unique object name for the skill, safe in every tool."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", skill_id)[:40].strip("-")
    return f"{readable}-{hashlib.sha256(skill_id.encode()).hexdigest()}"


@dataclass(frozen=True)
class Version:
    """Identifies a stored object, and has the time by S3's clock at which S3 reported it."""

    etag: str
    as_of: dt.datetime
    token: str
    seen_at: dt.datetime

    def is_newer_than(self, as_of: dt.datetime) -> bool:
        """Whether it is kept instead of a window with this as_of; see `windows/store.py` for an as_of in the future."""
        return as_of < self.as_of <= self.seen_at + CLOCK_TOLERANCE


class S3Windows(WindowStore):
    """The windows below s3://bucket/prefix."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._location = f"s3://{bucket}/{prefix}".rstrip("/")
        self._root = f"{prefix}/windows/" if prefix else "windows/"
        limits = Config(
            max_pool_connections=MAX_IN_FLIGHT,
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 5},
        )
        with self._explaining_failures():
            # A separate session, because the shared one keeps the credentials that it found first.
            self._s3 = boto3.Session().client("s3", config=limits)

    @property
    def location(self) -> str:
        return self._location

    def check_access(self) -> None:
        """List, and try a put whose condition is always false, so that nothing is written."""
        with self._explaining_failures():
            self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._root, MaxKeys=1)
            try:
                self._put(f"{self._root}access-check", b"", IfMatch=f'"{uuid.uuid4().hex}"')
            except ClientError as error:
                if code_of(error) not in (*CHANGED, *MISSING):
                    raise

    def store(self, windows: Mapping[str, AttemptWindow], run_id: str) -> Iterator[tuple[str, Exception]]:
        for key, result in self._each(sorted(windows), lambda key: self._store_one(windows[key], run_id)):
            if isinstance(result, Exception):
                yield key, result

    def load(self, keys: Sequence[str]) -> dict[str, StoredWindow | Exception]:
        return {key: window for key, window in self._each(keys, self._load_one) if window is not None}

    def prune(self, since: dt.date) -> int:
        def prune_one(key: str) -> bool:
            version = self._version(key)
            if version is None or version.as_of.astimezone(dt.UTC).date() >= since:
                return False
            return self._if_unchanged(lambda: self._delete(key, IfMatch=version.etag))

        return self._count(prune_one)

    def forget(self, student_id: str) -> int:
        return self._count(lambda key: self._forget_one(key, student_id))

    def _store_one(self, window: AttemptWindow, run_id: str) -> None:
        """Make this the skill's window.

        Raises
        ------
        WindowOvertaken
            A newer one is stored.
        """
        key, stored, token = self._key_of(window.skill_id), StoredWindow(window, run_id), uuid.uuid4().hex
        file = encode(stored)
        for _ in range(MAX_TRIES):
            version = self._version(key)
            if version and version.token == token:
                # An earlier try succeeded; only its answer was lost.
                return
            if version and version.is_newer_than(window.as_of):
                raise WindowOvertaken("a newer window is stored")
            if self._replace(key, version, file, window.as_of, token):
                return
        raise WindowUnusable(f"other runs replaced {key} {MAX_TRIES} times meanwhile; run it again")

    def _load_one(self, skill_id: str) -> StoredWindow | None:
        key = self._key_of(skill_id)
        answer = self._get(key)
        if answer is None:
            return None
        stored = decode(answer["Body"].read(), key)
        if stored.window.skill_id != skill_id:
            raise WindowUnusable(
                f"{key} is a window of the skill {stored.window.skill_id!r}; delete it and materialise "
                "attempt_window for it again"
            )
        return stored

    def _forget_one(self, key: str, student_id: str) -> bool:
        for _ in range(MAX_TRIES):
            answer = self._get(key)
            if answer is None:
                return False
            stored = decode(answer["Body"].read(), key)
            if student_id not in stored.window.student_ids:
                return False
            version, file = _version_of(answer, key), encode(stored.without(student_id))
            if self._replace(key, version, file, stored.window.as_of, uuid.uuid4().hex):
                return True
        raise WindowUnusable(f"other runs replaced {key} {MAX_TRIES} times meanwhile; run it again")

    def _count(self, work: Callable[[str], bool]) -> int:
        """Do the work for each window's key; return how often the result was true, or finally raise the first failure."""

        def one(key: str) -> bool:
            name = key.removeprefix(self._root)
            if name.startswith(EARLIER_LAYOUT):
                self._delete(key)
            return re.fullmatch(WINDOW_NAME, name) is not None and work(key)

        with self._explaining_failures():
            keys = list(self._list())
        results = [result for _, result in self._each(keys, one)]
        for result in results:
            if isinstance(result, Exception):
                raise result
        return sum(result is True for result in results)

    def _key_of(self, skill_id: str) -> str:
        return f"{self._root}{object_name(skill_id)}.parquet"

    def _version(self, key: str) -> Version | None:
        """The stored object's version; None if there is none."""
        try:
            return _version_of(self._s3.head_object(Bucket=self._bucket, Key=key), key)
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise

    def _get(self, key: str) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = self._s3.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise
        return answer

    def _replace(
        self, key: str, version: Version | None, file: bytes, as_of: dt.datetime, token: str
    ) -> bool:
        """Replace this version of the object; False if another version is stored by now."""
        condition = {"IfMatch": version.etag} if version else {"IfNoneMatch": "*"}
        metadata = {"as-of": as_of.isoformat(), "token": token}
        return self._if_unchanged(lambda: self._put(key, file, Metadata=metadata, **condition))

    def _if_unchanged(self, request: Callable[[], None]) -> bool:
        try:
            request()
        except ClientError as error:
            if code_of(error) in (*CHANGED, *MISSING):
                return False
            raise
        return True

    def _put(self, key: str, body: bytes, **options: Any) -> None:
        kind = "application/vnd.apache.parquet"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=kind, **options)

    def _delete(self, key: str, **condition: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key, **condition)

    def _list(self) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._root)
        for page in pages:
            yield from (item["Key"] for item in page.get("Contents", []))

    def _each(self, keys: Sequence[str], work: Callable[[str], T]) -> Iterator[tuple[str, T | Exception]]:
        """Do the work for the keys, several at once; yield each result, or the exception if the work failed.

        Raises
        ------
        WindowStoreUnavailable
            The failure would affect every other key too.
        """
        with ThreadPoolExecutor(MAX_IN_FLIGHT) as pool:
            started = {pool.submit(work, key): key for key in keys}
            try:
                for future in as_completed(started):
                    error = future.exception()
                    if error is None:
                        yield started[future], future.result()
                    elif isinstance(error, Exception):
                        if failure := explain(error, self._bucket, self.location):
                            raise failure from None
                        yield started[future], error
            finally:
                pool.shutdown(cancel_futures=True)

    @contextmanager
    def _explaining_failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if failure := explain(error, self._bucket, self.location):
                raise failure from None
            raise


def _version_of(answer: Mapping[str, Any], key: str) -> Version:
    metadata = answer["Metadata"]
    seen_at = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    try:
        as_of = dt.datetime.fromisoformat(metadata["as-of"])
        return Version(answer["ETag"], as_of, metadata["token"], seen_at)
    except (KeyError, ValueError):
        raise WindowUnusable(
            f"{key} is not a window of ours; delete it and materialise attempt_window for it again"
        ) from None
