"""URLs as other programs print them."""

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, make_url

from bkt_pipeline.db.urls import libpq_url, psycopg2_url
from bkt_pipeline.errors import InvalidSettings

BASE = "postgresql://user:hidden@host:5432/platform"


@pytest.mark.parametrize("convert", [libpq_url, psycopg2_url])
@pytest.mark.parametrize(
    "name", ["schema", "pool", "connection_limit", "pgbouncer", "serverVersion", "ssl", "usessl"]
)
@pytest.mark.parametrize("form", ["?{}=1", "?sslmode=require&{}=1", "?{}=1&sslmode=require"])
def test_a_parameter_of_another_driver_is_named(convert: Callable[[str], str], name: str, form: str) -> None:
    with pytest.raises(InvalidSettings, match=f"has the parameter {name}, ") as refused:
        convert(BASE + form.format(name))
    assert "hidden" not in str(refused.value)
    assert ("BKT_SOURCE_SCHEMA" in str(refused.value)) == (name == "schema")


@pytest.mark.parametrize("convert", [libpq_url, psycopg2_url])
@pytest.mark.parametrize("url", [BASE + "?hidden=1", BASE + "?hidden&pools=1"])
def test_what_may_be_a_part_of_a_password_is_not_shown(convert: Callable[[str], str], url: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        convert(url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("convert", [libpq_url, psycopg2_url])
def test_parameters_of_libpq_are_kept(convert: Callable[[str], str]) -> None:
    assert "sslmode=verify-full" in convert(BASE + "?sslmode=verify-full")


def test_keywords_are_understood_for_dagsters_storage_too() -> None:
    url = make_url(psycopg2_url("host=/run/pg port=5433 dbname=platform user=u password='a b@c'"))
    _, arguments = create_engine(url).dialect.create_connect_args(url)
    expected = {
        "host": "/run/pg",
        "port": "5433",
        "dbname": "platform",
        "user": "u",
        "password": "a b@c",
    }
    assert expected.items() <= arguments.items()
