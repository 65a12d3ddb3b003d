"""The types of settings: how the text of an environment variable becomes a value, or is refused."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode


def _whole_number(value: object) -> object:
    """Accept only digits; pydantic's int would also accept 1_000 and 1.0."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        raise ValueError("a whole number")
    return value


def _yes_or_no(value: object) -> object:
    if isinstance(value, str):
        return {"yes": True, "1": True, "no": False, "0": False}.get(value, value)
    return value


def _tags(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split()]
    if not all(name and tag for name, _, tag in pairs):
        raise ValueError("name=value, several with a space between them")
    return {name: tag for name, _, tag in pairs}


def _web_address(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"https?://[^\s/?#@]+([/?#]\S*)?", value):
        raise ValueError("an http:// or https:// address without a user name")
    return value


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
YesOrNo = Annotated[bool, Field(strict=True), BeforeValidator(_yes_or_no)]
Tags = Annotated[dict[str, str], NoDecode, BeforeValidator(_tags)]
# Secret, because such an address may contain a token.
WebAddress = Annotated[SecretStr | None, BeforeValidator(_web_address)]
