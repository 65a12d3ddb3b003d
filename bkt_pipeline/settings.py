"""Every environment variable, once: its name, type, default and meaning.

To add one, add a field: the table in deploy/settings.md is tested against this module, the tests hide the variable
from themselves, and an invalid value is reported by the variable's name.

Only the environment is read, when :func:`settings` is called: no `.env` file, and nothing at import. An
empty variable counts as unset. URLs may hold a password, so they are secrets here and never shown.
"""

import os
import re
import typing
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from bkt_pipeline.errors import InvalidSettings

WINDOW_DAYS = 30
MIN_ATTEMPTS = 50
ITEM_WINDOW_DAYS = 90
DATABASE_URL = "DATABASE_URL"


def _matching(pattern: str, allowed: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            raise ValueError(allowed)
        return value

    return BeforeValidator(check)


def _yes_or_no(value: object) -> object:
    return {"yes": True, "1": True, "no": False, "0": False}.get(str(value), value)


def _tags(value: object) -> object:
    return dict(pair.split("=", 1) for pair in value.split()) if isinstance(value, str) else value


# Pydantic's own int also accepts 1_000 and 1.0.
WholeNumber = Annotated[int, _matching("[0-9]+", "a whole number")]
YesOrNo = Annotated[bool, Field(strict=True), BeforeValidator(_yes_or_no)]
_PAIRS = _matching(r"([^\s=]+=\S+\s*)*", "name=value, several with a space between them")
Tags = Annotated[dict[str, str], NoDecode, BeforeValidator(_tags), _PAIRS]
# Secret, because such an address may contain a token.
_ADDRESS = _matching(r"https?://[^\s/?#@]+([/?#]\S*)?", "an http:// or https:// address without a user name")
WebAddress = Annotated[SecretStr | None, _ADDRESS]


def variable(name: str, default: Any, meaning: str, shown: str = "", **limits: Any) -> Any:
    """A setting: its environment variable, its default (as `shown` on the page), its meaning, its limits."""
    return Field(
        default, validation_alias=name, description=meaning, json_schema_extra={"default": shown}, **limits
    )


class Settings(BaseSettings):
    """The settings of this process, read from its environment."""

    model_config = SettingsConfigDict(
        case_sensitive=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = variable(
        DATABASE_URL, None, "The platform's database.", "none, see `BKT_DEMO`"
    )
    source_schema: str | None = variable(
        "BKT_SOURCE_SCHEMA",
        None,
        "The schema in which `skills`, `items` and `attempts` (tables or views) are read; `skill_bkt_params` is "
        "looked for there first.",
        "the search path",
    )
    dagster_postgres_url: SecretStr | None = variable(
        "DAGSTER_POSTGRES_URL", None, "Dagster's own storage.", "a separate database on the embedded Postgres"
    )
    demo: YesOrNo | None = variable(
        "BKT_DEMO",
        None,
        "`1`: where `DATABASE_URL` is not set, use the embedded Postgres with the synthetic school or what `load` "
        "put there. `0`: never.",
        "`1` for the commands until a platform was configured, else `0`",
    )
    pipeline_home: Path | None = variable(
        "BKT_PIPELINE_HOME",
        None,
        "Where the embedded Postgres and Dagster keep their files.",
        "`/var/lib/bkt-pipeline` for root, else a folder in your home",
    )
    partitions: str = variable(
        "BKT_PARTITIONS",
        "skill",
        "The name of the partitions in Dagster, one for each skill. Each installation in one Dagster has its own.",
    )
    skills_per_run: WholeNumber = variable(
        "BKT_SKILLS_PER_RUN", 1000, "The number of skills in one shard run of the night.", ge=1
    )
    shard_tags: Tags = variable(
        "BKT_SHARD_TAGS",
        {},
        "More tags for the night's shard runs, such as `ecs/cpu=2048 ecs/memory=8192`.",
        "none",
    )
    estimator: Literal["grid", "polished", "pooled"] = variable(
        "BKT_ESTIMATOR",
        "grid",
        "What `skill_bkt_params` gets: the best point of the `grid`, the `polished` continuous optimum, or the `pooled` "
        "estimate, which leans on the school's other skills where a skill has few answers.",
    )
    sequences: Literal["window", "from_first_answer"] = variable(
        "BKT_SEQUENCES",
        "window",
        "Whose answers a skill is fitted on: those in the `window`, or, of the students who answered in it, all answers "
        "`from_first_answer` on.",
    )
    window_days: WholeNumber = variable(
        "BKT_WINDOW_DAYS", WINDOW_DAYS, "The length of the window in days.", ge=1, le=3650
    )
    min_attempts: WholeNumber = variable(
        "BKT_MIN_ATTEMPTS",
        MIN_ATTEMPTS,
        "A skill with fewer graded attempts in the window is skipped. 0 is for the `pooled` estimator.",
        ge=0,
    )
    item_window_days: WholeNumber = variable(
        "BKT_ITEM_WINDOW_DAYS",
        ITEM_WINDOW_DAYS,
        "How many days of answers the items are fitted on.",
        ge=1,
        le=3650,
    )
    retry_seconds: WholeNumber = variable(
        "BKT_RETRY_SECONDS",
        90,
        "How many seconds a run spends on retrying a failing database, in total.",
        ge=0,
        le=999_999,
    )
    statement_seconds: WholeNumber = variable(
        "BKT_STATEMENT_SECONDS", 600, "How many seconds one statement may take.", ge=1, le=999_999
    )
    theta_from: Literal["replay", "mastery"] = variable(
        "BKT_THETA_FROM",
        "replay",
        "Where a student's ability comes from: `replay`, or `mastery` for the platform's table "
        "`student_skill_mastery(student_id, skill_id, p_known)`.",
    )
    item_model: Literal["2pl", "offset"] = variable(
        "BKT_ITEM_MODEL",
        "2pl",
        "Which model `items.irt_a` and `irt_b` come from: the two-parameter logistic model, `2pl`, or the `offset` from what "
        "the skill's parameters predict, which an item has from its first answers on. Every night fits both.",
    )
    update_items: YesOrNo = variable(
        "BKT_UPDATE_ITEMS",
        True,
        "Whether `items.irt_a`, `irt_b` and `irt_calibrated_at` are updated where the platform has them.",
    )
    skill_name: str | None = variable(
        "BKT_SKILL_NAME",
        None,
        "The column of `skills` that holds the name of a skill, as the night's table, summary, pictures and messages "
        "show it.",
        "`name`, `title` or `slug`, if there is such a column",
    )
    notify: SecretStr | None = variable(
        "BKT_NOTIFY",
        None,
        "Who gets a message about each night: [Apprise](https://appriseit.com) URLs, several with a space between them. "
        "Needs the extra `notify`.",
        "nobody",
    )
    heartbeat: WebAddress = variable(
        "BKT_HEARTBEAT",
        None,
        "An address that is requested at the end of each night that calibrated a skill, for a service that raises an "
        "alarm if no request arrives.",
        "none",
    )
    ui_url: SecretStr | None = variable(
        "BKT_UI_URL",
        None,
        "The address of the Dagster UI, which the messages link to.",
        "none",
    )
    attempt_window_store: str | None = variable(
        "ATTEMPT_WINDOW_STORE",
        None,
        "Where each skill's last window is kept: `s3://bucket/prefix`.",
        "the schema `bkt_pipeline`",
        repr=False,
    )
    dagster_home: Path | None = variable(
        "DAGSTER_HOME",
        None,
        "The folder of Dagster's own configuration, `dagster.yaml`.",
        "`dagster` in `BKT_PIPELINE_HOME`",
    )
    dagster_event_batch_size: WholeNumber = variable(
        "DAGSTER_EVENT_BATCH_SIZE", 1000, "How many events Dagster writes to its storage at once.", ge=0
    )
    xdg_data_home: Path | None = variable(
        "XDG_DATA_HOME",
        None,
        "The user's data folder on Linux, in which the folder `bkt-pipeline` is made.",
        "`~/.local/share`",
    )
    ecs_metadata_uri: SecretStr | None = variable(
        "ECS_CONTAINER_METADATA_URI_V4",
        None,
        "Set by Amazon ECS; an embedded Postgres never starts in a task there.",
        "not set",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the environment."""
        return (env_settings,)

    @model_validator(mode="before")
    @classmethod
    def _without_the_empty_ones(cls, values: dict[str, str]) -> dict[str, str]:
        return {name: value.strip() for name, value in values.items() if value.strip()}


def settings() -> Settings:
    """The current settings, read from the environment.

    Raises
    ------
    InvalidSettings
        A variable has an invalid value. The message names it, its value unless that is a secret, and what is allowed.
    """
    return _settings(tuple(map(os.environ.get, variables())))


def database_url(variable: str = DATABASE_URL) -> str | None:
    """The URL of a platform's database; each platform that this process serves has its own variable."""
    if variable == DATABASE_URL:
        url = settings().database_url
        return url.get_secret_value() if url else None
    return os.environ.get(variable, "").strip() or None


# Every transaction reads its time limits, so this is called thousands of times a night.
@lru_cache(maxsize=1)
def _settings(environment: tuple[str | None, ...]) -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        # Not chained: its text contains the value, which may be a secret.
        problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0])
    field = variables()[name]
    shown = "invalid" if _is_secret(field) else repr(problem["input"])
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    raise InvalidSettings(f"{name} is {shown}; it must be {_allowed(field) or expected}")


@cache
def variables() -> dict[str, FieldInfo]:
    """The field of each environment variable, by the variable's name."""
    return {str(field.validation_alias): field for field in Settings.model_fields.values()}


def default_of(field: FieldInfo) -> str:
    """The default, as deploy/settings.md shows it."""
    shown = field.json_schema_extra["default"] if isinstance(field.json_schema_extra, dict) else ""
    return str(shown) or {True: "yes", False: "no"}.get(field.default, str(field.default))


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *typing.get_args(field.annotation))


def _allowed(field: FieldInfo) -> str:
    """The values that a setting accepts, from its type and limits; empty if they do not define it."""
    if field.annotation is int:
        limits = {n: getattr(limit, n) for limit in field.metadata for n in ("ge", "le") if hasattr(limit, n)}
        at_least = f"a whole number, at least {limits['ge']}"
        return f"{at_least} and at most {limits['le']}" if "le" in limits else at_least
    if bool in (field.annotation, *typing.get_args(field.annotation)) or field.annotation == YesOrNo | None:
        return "yes or no"
    if typing.get_origin(field.annotation) is Literal:
        return " or ".join(map(str, typing.get_args(field.annotation)))
    return ""
