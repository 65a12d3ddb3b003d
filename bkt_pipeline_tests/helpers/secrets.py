"""A password that must never be shown."""

PASSWORD = "Pa55-w0rd-xyzzy"


def secret(url: str) -> str:
    return url.replace("postgres@", f"postgres:{PASSWORD}@")
