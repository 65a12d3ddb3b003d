"""All exceptions that this package raises deliberately.

::

    BktError
    ├── InvalidAttempts        attempts that do not form sequences of graded answers
    ├── InvalidParams          parameters outside the model's bounds
    ├── InvalidGrid            a grid with invalid axes, steps or bounds
    ├── InvalidSettings        an invalid setting, argument or date
    ├── InvalidFile            a file to load that has invalid rows
    ├── WindowStoreUnavailable the store in ATTEMPT_WINDOW_STORE cannot be used at all
    ├── WindowUnusable         one skill's window cannot be stored or read
    ├── WindowOvertaken        one skill's window was not stored: a newer one exists
    └── DatabaseError
        ├── EmbeddedPostgresError   the embedded server cannot run here
        ├── DatabaseUnavailable     no connection, or lost for good
        ├── SchemaNotReady          our own tables are missing or of another version
        ├── SourceSchemaError       the platform's tables are not what we rely on
        ├── RowNotTaken             a table dropped a row without an error
        └── PermissionMissing       they are, but this role may not read or write all of their rows

A message names what is wrong, the value, the place and what to do next. It never contains a
password or data about a student.
"""


class BktError(Exception):
    """Base class of all errors of this package."""


class InvalidAttempts(BktError, ValueError):
    """Attempts that do not form sequences of graded answers to one skill."""


class InvalidParams(BktError, ValueError):
    """BKT parameters outside the model's bounds."""


class InvalidGrid(BktError, ValueError):
    """A grid with invalid axes, steps or bounds."""


class InvalidSettings(BktError, ValueError):
    """An invalid setting, argument or date."""


class InvalidFile(BktError, ValueError):
    """A file to load that has invalid rows; nothing from it was written."""


class WindowStoreUnavailable(BktError):
    """The store in ATTEMPT_WINDOW_STORE can neither be read nor written."""


class WindowUnusable(BktError):
    """One skill's window cannot be stored or read; other skills are not affected."""


class WindowOvertaken(BktError):
    """One skill's window was not stored because a newer one exists; not a failure."""


class DatabaseError(BktError):
    """Base class of the database errors."""


class EmbeddedPostgresError(DatabaseError):
    """The embedded Postgres cannot run here; set DATABASE_URL instead."""


class DatabaseUnavailable(DatabaseError):
    """No connection could be made, or it was lost and could not be made again."""


class SchemaNotReady(DatabaseError):
    """The schema `bkt_pipeline` has the wrong version, and this role or version cannot migrate it."""


class SourceSchemaError(DatabaseError):
    """The platform's tables lack something that the pipeline needs."""


class RowNotTaken(DatabaseError):
    """A table took a row without an error and did not keep it."""


class PermissionMissing(DatabaseError):
    """This role may not read or write all rows of a table of the platform; the message names the grant."""


def install_extra(extra: str) -> str:
    """What to do if a package of one of our extras is missing; true for a clone and for a wheel."""
    return (
        f"install bkt_pipeline with its extra {extra}: pip install -e '.[{extra}]' in a clone, "
        f"or pip install 'FILE.whl[{extra}]'"
    )
