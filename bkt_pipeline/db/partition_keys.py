"""Which partition keys are skills of this platform."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from bkt_pipeline.db.params import given_skills
from bkt_pipeline.db.platform import Source
from bkt_pipeline.errors import SourceSchemaError

NO_SKILL = (
    "the platform has no skill with this id: the partition was added by hand or by another program, and nights leave it "
    "out; delete it if nobody needs it"
)


def unknown_keys(connection: Connection, source: Source, keys: Sequence[str]) -> list[str]:
    """The keys that are not the id of any skill, including keys that are not a value of skills.id's type."""
    valid = [key for key in keys if _is_id(source, key)]
    given, parameters = given_skills(source, valid)
    skills = source.skills
    rows = connection.execute(
        select(given.c.place).select_from(given.join(skills, skills.c.id == given.c.id)), parameters
    )
    known = {valid[place - 1] for place in rows.scalars()}
    return [key for key in keys if key not in known]


def _is_id(source: Source, key: str) -> bool:
    try:
        source.skill_ids([key])
    except SourceSchemaError:
        return False
    return True
