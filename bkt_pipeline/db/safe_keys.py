"""Which skill ids Dagster accepts as partition keys.

The rules are here because `load` applies them to a file long before Dagster sees a key.
"""

# Dagster refuses a partition key that contains one of these.
REFUSED_IN_KEYS = ("...", "\a", "\b", "\f", "\n", "\r", "\t", "\v", "\0")

# Bytes. A longer id does not fit the indexes that Dagster and our own tables have on a skill beside other columns:
# Postgres indexes 2,704 bytes of a row at most.
LONGEST_ID = 2_500


def refused_as_partition(skill_id: str) -> bool:
    """Whether Dagster refuses the id as a partition key.

    >>> [refused_as_partition(skill_id) for skill_id in ("", "two\\nlines", "fractions")]
    [True, True, False]
    """
    return not skill_id or any(part in skill_id for part in REFUSED_IN_KEYS)


def partition_safe(skill_id: str) -> str:
    """The id with each "..." replaced by the single character "…", which Dagster accepts.

    Control characters are left unchanged, because a file with one in an id is refused.

    >>> partition_safe("round to ten, hundred...")
    'round to ten, hundred…'
    """
    return skill_id.replace("...", "…")
