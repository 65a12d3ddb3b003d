"""Dagster's event log on Postgres, with batched event writes and cached partition keys.

A night of 1,000 skills writes about 15,000 events. On a machine with two cores, a materialisation takes 2.7 ms alone and
an evaluation 3.1 to 4.5 ms; in a batch, an event takes a third of a millisecond (benchmarks/nights.md).

Dagster reads all partition keys 13 times to launch a run over a range and 6 times to execute it. With 100,000
keys each read takes half a second, so the keys are cached.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import groupby
from typing import Any

import dagster as dg
from dagster_postgres import PostgresEventLogStorage
from sqlalchemy import (
    ARRAY,
    TIMESTAMP,
    BigInteger,
    Column,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    column,
    delete,
    func,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import Insert, insert

from bkt_pipeline.instance.event_batch import EventBatch, rows
from bkt_pipeline.instance.event_text import EventTexts
from bkt_pipeline.instance.lasting import lasting, retried

WRITERS = ("store_event", "store_event_batch", "delete_events")
# For connections that stay open, instead of one for each statement.
UNIQUE = ("asset_key", "check_name", "run_id", "partition")  # of the executions of checks
POOL = {"statement_timeout": 60_000, "pool_recycle": 1800, "max_overflow": 20}
PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
MATERIALISED = dg.DagsterEventType.ASSET_MATERIALIZATION
EVALUATED = dg.DagsterEventType.ASSET_CHECK_EVALUATION
EXECUTIONS = Table(
    "asset_check_executions",
    MetaData(),
    *(Column(name, Text) for name in (*UNIQUE, "execution_status", "evaluation_event")),
    Column("evaluation_event_timestamp", TIMESTAMP),
    *(
        Column(name, BigInteger)
        for name in ("evaluation_event_storage_id", "materialization_event_storage_id")
    ),
)
# The columns that the executions have as they are given; asset and partition are not in an evaluation's row of the log.
SHARED = ("check_name", "run_id", "execution_status", "materialization_event_storage_id")
OF_WHAT = {"of_asset": Text(), "of_partition": Text()}
DYNAMIC_PARTITIONS = table("dynamic_partitions", column("id"), column("partitions_def_name"))
EVENTS = table("event_logs", column("run_id"), column("event"))


@contextmanager
def batched_events(instance: dg.DagsterInstance, run_id: str) -> Iterator[EventBatch]:
    """Write the run's materialisations and check evaluations in this block in batches; all are written when it ends.

    A storage that is not on Postgres writes them one by one, and all of them have to be yielded.
    """
    with our_event_log(instance) as ours:
        if ours is None:
            yield EventBatch(list)
            return
        with ours.batched_events(run_id) as batch:
            yield batch


@contextmanager
def our_event_log(instance: dg.DagsterInstance) -> "Iterator[BatchingEventLogStorage | None]":
    """The instance's event log if it is one of ours. If it is dagster-postgres's own, one of ours writes its events in
    this block, to the same database. None for any other storage."""
    storage = instance.event_log_storage
    if isinstance(storage, BatchingEventLogStorage):
        yield storage
    elif type(storage) is not PostgresEventLogStorage:
        yield None
    else:
        ours, own = BatchingEventLogStorage.on_the_database_of(storage), vars(storage)
        before = {name: own[name] for name in WRITERS if name in own}
        own |= {name: getattr(ours, name) for name in WRITERS}
        try:
            yield ours
        finally:
            for name in WRITERS:
                del own[name]
            own |= before


@lasting(except_for=("store_event", "store_event_batch"))
class BatchingEventLogStorage(PostgresEventLogStorage):
    """Writes many events of one kind with one statement; the stored rows are the same as Dagster's own.

    What fails because its connection was lost is done again, and an event is stored once.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super().__init__(*args, **kwargs)

    def _forget(self) -> None:
        self._batches: dict[str, EventBatch] = {}
        self._partitions: dict[str, tuple[Row[Any], Sequence[str]]] = {}
        self._texts = EventTexts()

    @classmethod
    def on_the_database_of(cls, storage: PostgresEventLogStorage) -> "BatchingEventLogStorage":
        """One that connects as `storage` does, and keeps its connection open."""
        ours = copy(storage)
        ours.__class__ = cls
        assert isinstance(ours, cls)
        for name in WRITERS:
            vars(ours).pop(name, None)
        ours._forget()
        ours.optimize_for_webserver(**POOL)
        return ours

    @contextmanager
    def batched_events(self, run_id: str) -> Iterator[EventBatch]:
        """See `batched_events()`."""
        batch = self._batches[run_id] = EventBatch(self._write)
        try:
            yield batch
        finally:
            self._batches.pop(run_id).flush()

    def store_event(self, event: dg.EventLogEntry) -> None:
        batch = self._batches.get(event.run_id)
        if batch is not None and event.dagster_event_type in (MATERIALISED, EVALUATED):
            batch.hold(event)
        else:
            self._once([event], partial(super().store_event, event))

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        for kind, group in groupby(events, key=lambda event: event.dagster_event_type):
            some = list(group)
            if kind == PLANNED:
                self._once(some, partial(self._write_planned, some))
            elif kind == MATERIALISED:
                self._once(some, partial(super().store_event_batch, some))
            else:
                for event in some:
                    self.store_event(event)

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """The keys, read again only if they have changed since the last call.

        Ids are never reused, so any change alters the number of rows, the highest id or the sum of ids.
        """
        ids = DYNAMIC_PARTITIONS.c.id
        of_name = DYNAMIC_PARTITIONS.c.partitions_def_name == partitions_def_name
        with self.index_connection() as connection:
            state_of = select(func.count(), func.max(ids), func.sum(ids)).where(of_name)
            state = connection.execute(state_of).one()
        known, keys = self._partitions.get(partitions_def_name, (None, []))
        if state != known:
            # Read after the state, so that keys added in between cause another read next time.
            keys = super().get_dynamic_partitions(partitions_def_name)
            self._partitions[partitions_def_name] = (state, keys)
        return list(keys)

    def delete_events(self, run_id: str) -> None:
        """Delete the run's events, and its check evaluations, which Dagster would keep."""
        super().delete_events(run_id)
        with self.index_connection() as connection:
            connection.execute(delete(EXECUTIONS).where(EXECUTIONS.c.run_id == run_id))

    def store_asset_check_event(self, event: dg.EventLogEntry, event_id: int | None) -> None:
        """Store the event, except a planned check of many partitions.

        Dagster would write one row for each partition, and each row would list all partitions, so the size
        would grow with the square of the number of skills.
        """
        planned: Any = event.get_dagster_event().event_specific_data
        if event.dagster_event_type == EVALUATED or planned.partitions_subset is None:
            super().store_asset_check_event(event, event_id)

    def _write(self, events: list[dg.EventLogEntry]) -> None:
        for kind, group in groupby(events, key=lambda event: event.dagster_event_type):
            some = list(group)
            store = super().store_event_batch if kind == MATERIALISED else self._write_evaluations
            self._once(some, partial(store, some))

    def _once(self, events: Sequence[dg.EventLogEntry], store: Callable[[], None]) -> None:
        """Store the events. If the connection is lost half-way, delete what of them was stored, and store them again."""

        def attempt(number: int) -> None:
            if number > 1:
                texts = [self._event_to_row(event)["event"] for event in events]
                of_run = EVENTS.c.run_id == events[0].run_id
                with self.index_connection() as connection:
                    connection.execute(delete(EVENTS).where(of_run, EVENTS.c.event.in_(texts)))
            store()

        retried(attempt)

    def _write_planned(self, events: Sequence[dg.EventLogEntry]) -> None:
        statement = self.prepare_insert_event_batch(events)
        with self.index_transaction() as connection:
            stored = connection.execute(statement.returning(statement.table.c.id)).scalars().all()
        self.store_asset_event(events[-1], stored[-1])

    def _write_evaluations(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Write each evaluation to the log and to the executions of checks in one statement, which holds its text once."""
        log = self.prepare_insert_event(events[0]).table
        in_log = rows(events, self._event_to_row, self._texts.of)
        found = [row | _execution(event) for row, event in zip(in_log, events, strict=True)]
        given = given_rows(found, types_of(log) | types_of(EXECUTIONS) | OF_WHAT).cte("given_events")
        into_log = select(*(given.c[name] for name in in_log[0]))
        write_log = insert(log).from_select(list(in_log[0]), into_log)
        logged = write_log.returning(log.c.id, log.c.event).cte("logged")
        row = {name: given.c[name] for name in SHARED} | {
            "asset_key": given.c.of_asset,
            "partition": given.c.of_partition,
            "evaluation_event": given.c.event,
            "evaluation_event_timestamp": given.c.timestamp,
            "evaluation_event_storage_id": logged.c.id,
        }
        executions = select(*row.values()).join_from(given, logged, given.c.event == logged.c.event)
        write = insert(EXECUTIONS).from_select(list(row), executions)
        replaced = {name: write.excluded[name] for name in row if name not in UNIQUE}
        with self.index_transaction() as connection:
            connection.execute(write.on_conflict_do_update(index_elements=UNIQUE, set_=replaced))

    def prepare_insert_event_batch(self, events: Sequence[dg.EventLogEntry]) -> Insert:
        """Insert the events with one parameter for each column, not for each value, which is far slower to prepare."""
        events_table = self.prepare_insert_event(events[0]).table
        found = rows(events, self._event_to_row, self._texts.of)
        return insert(events_table).from_select(list(found[0]), given_rows(found, types_of(events_table)))


def types_of(table: Table) -> dict[str, Any]:
    """The type of each column."""
    return {column.name: column.type for column in table.c}


def given_rows(rows: Sequence[Mapping[str, Any]], types: Mapping[str, Any]) -> Select[Any]:
    """Selects the rows, which have the same columns, in their order."""
    names = list(rows[0])
    arrays = [
        cast(bindparam(None, [row[name] for row in rows], ARRAY(types[name])), ARRAY(types[name]))
        for name in names
    ]
    kinds = [column(name, types[name]) for name in names]
    given = func.unnest(*arrays).table_valued(*kinds, with_ordinality="place").render_derived(name="given")
    return select(*(given.c[name] for name in names)).order_by(given.c.place)


def _execution(event: dg.EventLogEntry) -> dict[str, Any]:
    """What the executions of checks hold of an evaluation and the log does not."""
    evaluation: Any = event.get_dagster_event().event_specific_data
    target = evaluation.target_materialization_data
    return {
        "check_name": evaluation.check_name,
        "of_asset": evaluation.asset_key.to_string(),
        "of_partition": evaluation.partition,
        "execution_status": "SUCCEEDED" if evaluation.passed else "FAILED",
        "materialization_event_storage_id": target.storage_id if target else None,
    }
