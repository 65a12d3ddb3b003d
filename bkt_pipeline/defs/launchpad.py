"""The settings as the launchpad offers them: their defaults, and the refusal of values that a run could not use.

Dagster's launchpad checks the types of a run's config, but knows no limits of a number and no rule between two settings.
A config mapping does: it is called before a run is created, so a launch with an invalid setting fails in the
launchpad, with the reason, and leaves no run behind that would fail and be retried.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any, TypeVar

import dagster as dg
from pydantic import ValidationError, create_model

from bkt_pipeline.defs.resources import CalibrationSettings, ItemSettings
from bkt_pipeline.errors import InvalidSettings

Kind = TypeVar("Kind", CalibrationSettings, ItemSettings)


def offered(kind: type[Kind], values: Mapping[str, Any]) -> dg.ResourceDefinition:
    """The settings with these values as defaults, as a resource whose config is checked before a run is created.

    Raises
    ------
    InvalidSettings
        A value is invalid.
    """
    settings = with_defaults(kind, values)
    definition = settings.get_resource_definition()

    def checked(config: dict[str, Any]) -> dict[str, Any]:
        # What is wrong in the environment alone fails the night's first run, where people look for it.
        if any(value != type(settings).model_fields[name].default for name, value in config.items()):
            try:
                _ = validated(type(settings), config).options
            except InvalidSettings as error:
                raise dg.DagsterInvalidConfigError(str(error), [], config) from None  # type: ignore[no-untyped-call]
        return config

    return definition.configured(checked, config_schema=definition.config_schema)


def with_defaults(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Settings whose defaults are these values, which the launchpad shows and a run's config replaces.

    They are defaults of a class of their own, because Dagster drops the values of an instance as soon as a run's
    config names any setting.

    Raises
    ------
    InvalidSettings
        A value is invalid.
    """
    checked = validated(kind, values)
    fields: dict[str, Any] = {}
    for name in values:
        field = copy(kind.model_fields[name])
        field.default = getattr(checked, name)
        fields[name] = (field.annotation, field)
    made: type[Kind] = create_model(kind.__name__, __base__=kind, **fields)
    return made()


def validated(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """The settings with these values.

    Raises
    ------
    InvalidSettings
        A value is invalid.
    """
    if unknown := sorted(set(values) - set(kind.model_fields)):
        raise InvalidSettings(f"{unknown[0]} is not a setting; choose from {', '.join(kind.model_fields)}")
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, why = first["loc"][0], first["msg"].removeprefix("Value error, ")
        expected = why.replace("Input should be ", "it must be ")
        raise InvalidSettings(
            why if why.startswith(f"{name} ") else f"{name} is {first['input']!r}; {expected}"
        ) from None
