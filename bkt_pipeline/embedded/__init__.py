"""The embedded Postgres, for a machine without a DATABASE_URL.

This room decides when it is used (`fallback`) and where it keeps its files (`home`, `folders`, `sockets`, `data`). It
contains the server, its supervisor, and the URL to connect with (`libpq`). What is stored in it belongs to `db` and
`instance`.
"""
