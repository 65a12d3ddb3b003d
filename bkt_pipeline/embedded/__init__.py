"""The embedded Postgres, for a machine without a DATABASE_URL.

Here: when it is used (`fallback`), where it keeps its files (`home`, `folders`, `sockets`, `data`), the server and
its supervisor, and the URL that leads to it (`libpq`). What is stored in it belongs to `db` and `instance`.
"""
