"""The command `export`: the parameters, intervals and items of a night as files."""

import argparse
import csv
import datetime as dt
import io
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bkt_pipeline.calibration.labels import printable
from bkt_pipeline.cli.console import write_line
from bkt_pipeline.cli.files import written_whole
from bkt_pipeline.cli.rollback import parse_night
from bkt_pipeline.errors import InvalidSettings, install_extra

if TYPE_CHECKING:
    from bkt_pipeline.db.export import Exported

STDOUT = "-"


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    export = commands.add_parser(
        "export",
        help="write a night's parameters, intervals and items to files",
        description="Writes params.csv, one row for each skill that the night calibrated, with its parameters by every "
        "estimator, their intervals, and the held-out scores; and items.csv, one row for each item that no later night "
        "has calibrated again. The columns are those of the tables skill_fits and item_irt_params in the schema "
        "bkt_pipeline. A profile interval is that of the continuous maximum, so a grid point can lie outside it. Nothing is "
        "exported about a student.",
    )
    export.add_argument(
        "--night", metavar="DATE", help="UTC date of the night's as_of, e.g. 2026-01-31 (default: the newest)"
    )
    export.add_argument(
        "--format", choices=list(ENCODERS), default="csv", help="the files' format (default: csv)"
    )
    export.add_argument(
        "--out",
        metavar="FOLDER",
        help="the folder to write to; it is created if it is missing. Without it, the result is printed: JSON as one "
        "object with both tables, CSV with the parameters alone",
    )
    export.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    """Write the files, or print the result."""
    night = parse_night(options.night) if options.night is not None else None
    if options.format == "parquet" and find_spec("pyarrow") is None:
        raise InvalidSettings(f"--format parquet needs pyarrow; {install_extra('parquet')}")
    if options.out in (None, STDOUT):
        if options.format == "parquet":
            raise InvalidSettings("--format parquet needs --out FOLDER; only CSV and JSON can be printed")
        _print(_read(night), options.format)
        return 0
    folder = Path(options.out)
    if folder.is_file():
        raise InvalidSettings(f"--out {folder} is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.{options.format}" for name in ("params", "items")}
    with ExitStack() as stack:
        parts = {name: stack.enter_context(written_whole(path)) for name, path in paths.items()}
        tables = _read(night)
        for name, part in parts.items():
            part.write_bytes(ENCODERS[options.format](tables[name]))
    for name, path in paths.items():
        write_line(options.console, f"wrote {len(tables[name].rows)} rows to {path}")
    return 0


def _read(night: dt.date | None) -> "dict[str, Exported]":
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.export import night_tables

    with open_database() as database:
        return database.run(partial(night_tables, night=night))


def _print(tables: "dict[str, Exported]", form: str) -> None:
    both = {name: table.rows for name, table in tables.items()}
    data = _dumped(both) if form == "json" else _csv(tables["params"])
    # A file or pipe gets the ids as they are; a terminal would obey what is in them.
    sys.stdout.buffer.write(printable(data.decode()).encode() if sys.stdout.isatty() else data)
    sys.stdout.flush()


def _csv(table: "Exported") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table.types), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _iso(value) for name, value in row.items()} for row in table.rows)
    return text.getvalue().encode()


def _json(table: "Exported") -> bytes:
    return _dumped(table.rows)


def _dumped(value: object) -> bytes:
    return (json.dumps(value, default=_iso, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _iso(value: Any) -> Any:
    """A date or time in ISO 8601; other values unchanged."""
    return value.isoformat() if isinstance(value, dt.date) else value


def _parquet(table: "Exported") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[type, Any] = {
        str: pa.string(),
        float: pa.float64(),
        int: pa.int64(),
        dt.date: pa.date32(),
        dt.datetime: pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in table.types.items()])
    file = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(table.rows, schema), file)
    return bytes(file.getvalue())


ENCODERS: "dict[str, Callable[[Exported], bytes]]" = {"csv": _csv, "json": _json, "parquet": _parquet}
