"""Converts a window to the bytes of a Parquet file and back. It has one row per student, so other tools can read it too."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bkt_pipeline.errors import WindowUnusable
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.store import StoredWindow

_MOMENT = pa.timestamp("us", tz="UTC")


def encode(stored: StoredWindow) -> bytes:
    """Columns student_id, responses (1 right, 0 wrong) and answered_at; everything else is in the file's metadata."""
    window = stored.window
    offsets = pa.array(window.offsets, pa.int32())
    moments = pa.array(window.answered_at, pa.int64()).cast(_MOMENT)
    table = pa.table(
        {
            "student_id": pa.array(window.student_ids, pa.string()),
            "responses": pa.ListArray.from_arrays(offsets, pa.array(window.responses, pa.uint8())),
            "answered_at": pa.ListArray.from_arrays(offsets, moments),
        }
    ).replace_schema_metadata(
        {
            "skill_id": window.skill_id,
            "as_of": window.as_of.isoformat(),
            "window_days": str(window.window_days),
            "ungraded": str(window.ungraded),
            "sequences": window.sequences,
            "run_id": stored.run_id,
        }
    )
    file = pa.BufferOutputStream()
    pq.write_table(table, file, compression="zstd")
    return bytes(file.getvalue())


def decode(file: bytes, name: str) -> StoredWindow:
    """The window that was given to `encode`, equal in every value. `name` is the file's name in error messages.

    Raises
    ------
    WindowUnusable
        This is not a file from `encode`, or it is damaged.
    """
    try:
        return _decode(pq.read_table(pa.BufferReader(file)))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise WindowUnusable(
            f"{name} is not a window ({type(error).__name__}); materialise attempt_window for it again"
        ) from None


def _decode(table: pa.Table) -> StoredWindow:
    fields = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    responses, moments = (table[name].combine_chunks() for name in ("responses", "answered_at"))
    lengths = responses.value_lengths().to_numpy(zero_copy_only=False)
    window = AttemptWindow(
        skill_id=fields["skill_id"],
        student_ids=tuple(table["student_id"].to_pylist()),
        responses=responses.flatten().to_numpy(zero_copy_only=False),
        answered_at=moments.flatten().cast(pa.int64()).to_numpy(zero_copy_only=False),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        as_of=dt.datetime.fromisoformat(fields["as_of"]),
        window_days=int(fields["window_days"]),
        ungraded=int(fields["ungraded"]),
        sequences=fields["sequences"],
    )
    return StoredWindow(window, fields["run_id"])
