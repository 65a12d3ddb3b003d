"""Everything this package raises on purpose.

::

    BktError
    ├── InvalidAttempts        attempts that are no sequence of graded answers
    ├── InvalidParams          parameters outside the model's bounds
    ├── InvalidGrid            a grid that is no grid
    ├── InvalidSettings        a setting, argument or date nobody can mean
    ├── InvalidFile            a file to load that has bad rows
    ├── WindowStoreUnavailable no window can be kept where ATTEMPT_WINDOW_STORE says
    ├── WindowUnusable         one skill's window cannot be stored or read there
    ├── WindowOvertaken        one skill's window was not kept: a newer one is stored
    └── DatabaseError
        ├── EmbeddedPostgresError   the embedded server cannot run here
        ├── DatabaseUnavailable     no connection, or lost for good
        ├── SchemaNotReady          our own tables are missing or of another version
        ├── SourceSchemaError       the platform's tables are not what we rely on
        ├── RowNotTaken             a table dropped a row without an error
        └── PermissionMissing       they are, but this role may not read or write all of their rows

A message says what is wrong, which value, where, and what to do next. It never
holds a password or anything of a student.
"""


class BktError(Exception):
    """Base of all errors of this package."""


class InvalidAttempts(BktError, ValueError):
    """Attempts that are no sequence of graded answers of one skill."""


class InvalidParams(BktError, ValueError):
    """BKT parameters outside the model's bounds."""


class InvalidGrid(BktError, ValueError):
    """A grid whose axes, steps or bounds make no sense."""


class InvalidSettings(BktError, ValueError):
    """A setting, argument or date nobody can mean."""


class InvalidFile(BktError, ValueError):
    """A file to load that has bad rows; nothing of it was written."""


class WindowStoreUnavailable(BktError):
    """No window at all can be stored or read where ATTEMPT_WINDOW_STORE says."""


class WindowUnusable(BktError):
    """One skill's window cannot be stored or read; those of the others can."""


class WindowOvertaken(BktError):
    """One skill's window was not kept, because a newer one is stored; not a failure."""


class DatabaseError(BktError):
    """Something about the database; its subclasses say what."""


class EmbeddedPostgresError(DatabaseError):
    """The embedded Postgres cannot run here; DATABASE_URL is the way out."""


class DatabaseUnavailable(DatabaseError):
    """No connection could be made, or it was lost and did not come back."""


class SchemaNotReady(DatabaseError):
    """The schema `bkt_pipeline` is not what this version works with, and may not be changed as things are."""


class SourceSchemaError(DatabaseError):
    """The platform's tables lack something this pipeline relies on."""


class RowNotTaken(DatabaseError):
    """A table took a row without an error and did not keep it."""


class PermissionMissing(DatabaseError):
    """This role may not read or write all rows of a table of the platform; the message names the grant."""
