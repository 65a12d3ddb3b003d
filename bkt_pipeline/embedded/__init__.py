"""The embedded Postgres, for a machine without a DATABASE_URL.

Its server, its supervisor, their locks and folders. What is stored in it is the business of `db` and `instance`.
"""
