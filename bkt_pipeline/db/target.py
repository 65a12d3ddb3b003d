"""`skill_bkt_params`, which the platform's backend reads: created if it is missing, checked, never altered."""

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    Numeric,
    Table,
    Uuid,
    cast,
    func,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.dml import Insert
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.permissions import NOT_ALLOWED, name_of, require_readable, role_name
from bkt_pipeline.db.relations import FOREIGN, VIEW, find_relations, is_text, kind_of
from bkt_pipeline.db.retry import reason, sqlstate
from bkt_pipeline.db.schema import PARAMETERS, moment
from bkt_pipeline.errors import PermissionMissing, SourceSchemaError

TARGET = "skill_bkt_params"


TARGET_COMMENTS = {
    "skill_id": "Skill that the parameters belong to",
    **PARAMETERS,
    "log_likelihood": "Log-likelihood of the window's answers under these parameters, in nats",
    "calibrated_at": "When the row was written",
}

_NO_UNIQUE_INDEX = "42P10"


def find_target(connection: Connection, skills: Table, schema: str | None) -> Table | None:
    """The table, checked for everything that a night does with it; None if it does not exist yet.

    It is looked for in `schema` first, then in the search path. To check that a night can write to it, Postgres plans
    the night's statement without running it.

    Raises
    ------
    SourceSchemaError
        A column is missing, or the table does not accept our rows.
    PermissionMissing
        This role may not read, insert or update all rows.
    """
    found = find_relations(connection, [TARGET], schema)
    if not found and schema:
        found = find_relations(connection, [TARGET], None)
    if not found:
        return None
    target = found[TARGET]
    _require_columns(target)
    _require_same_ids(target, skills)
    require_readable(connection, target, list(TARGET_COMMENTS))
    _require_writable(connection, target)
    return target


def create_target(connection: Connection, skills: Table, schema: str | None) -> None:
    """Create the table in `schema`, or in the first schema of the search path."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("bkt_pipeline:migrate", 0))))
    types = {"skill_id": skills.c.id.type, "calibrated_at": moment}
    Table(
        TARGET,
        MetaData(),
        *(
            Column(
                name,
                types.get(name, Double()),
                primary_key=name == "skill_id",
                autoincrement=False,
                nullable=name == "log_likelihood",
                comment=comment,
            )
            for name, comment in TARGET_COMMENTS.items()
        ),
        schema=schema,
    ).create(connection, checkfirst=True)


def trial_upsert(target: Table) -> Insert:
    """The statement that publishes a skill's parameters, to be planned and not run."""
    values = {
        **{name: cast(0.25, Double) for name in PARAMETERS},
        "skill_id": cast(null(), target.c.skill_id.type),
        "log_likelihood": cast(null(), Double),
        "calibrated_at": func.now(),
    }
    return (
        insert(target)
        .values(values)
        .on_conflict_do_update(
            index_elements=["skill_id"],
            set_={name: target.c[name] for name in TARGET_COMMENTS if name != "skill_id"},
        )
    )


def _require_columns(target: Table) -> None:
    if lacks := [column for column in TARGET_COMMENTS if column not in target.c]:
        raise SourceSchemaError(
            f"table {TARGET} has no column {', '.join(lacks)}; add it: a night never alters an existing table"
        )
    if generated := [name for name in TARGET_COMMENTS if target.c[name].info["generated"]]:
        raise SourceSchemaError(
            f"table {TARGET} generates its column {', '.join(generated)}, and a night writes it; make it an "
            "ordinary column"
        )
    others = [column for column in target.c if column.name not in TARGET_COMMENTS]
    if unfilled := [column.name for column in others if not (column.nullable or column.info["filled"])]:
        raise SourceSchemaError(
            f"table {TARGET} requires a value in its column {', '.join(unfilled)}, which a night does not write; "
            "give the column a default or let it be NULL"
        )


def _require_same_ids(target: Table, skills: Table) -> None:
    ids, own = target.c.skill_id, skills.c.id
    same = (
        is_text(ids)
        or (isinstance(ids.type, Uuid) and isinstance(own.type, Uuid))
        or (isinstance(ids.type, Integer | Numeric) and isinstance(own.type, Integer | Numeric))
    )
    if not same:
        raise SourceSchemaError(
            f"{TARGET}.skill_id is {ids.info['type']} and skills.id is {own.info['type']}; both must have the same type"
        )


def _require_writable(connection: Connection, target: Table) -> None:
    if target.info["kind"] == FOREIGN:
        raise SourceSchemaError(
            f"{TARGET} is a foreign table, and Postgres cannot update rows there that exist already; make it a "
            "table of this database"
        )
    statement = trial_upsert(target).compile(connection)
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"EXPLAIN {statement}", statement.construct_params())
    except DBAPIError as error:
        named, state = name_of(connection, target), sqlstate(error) or "08"
        if state == _NO_UNIQUE_INDEX:
            way_out = f"issue: CREATE UNIQUE INDEX ON {named} (skill_id);"
            if target.info["kind"] == VIEW:
                # It may be of several tables, or its triggers may write anywhere.
                way_out = "make it a view of one table, without INSTEAD OF triggers, whose skill_id has a unique index"
            raise SourceSchemaError(
                f"{kind_of(target)} {TARGET} has no unique index on skill_id alone, so a night cannot replace a "
                f"skill's row; {way_out}"
            ) from None
        if state == NOT_ALLOWED:
            role = role_name(connection)
            raise PermissionMissing(
                f"the role {role} may not write {named}: {reason(error)}; issue: "
                f"GRANT SELECT, INSERT, UPDATE ON {named} TO {role}; (row-level security must not apply to the "
                "role either)"
            ) from None
        if state.startswith(("08", "57")):
            raise
        raise SourceSchemaError(
            f"{kind_of(target)} {TARGET} does not take the rows of a night: {reason(error)}"
        ) from None
