"""Files that a command writes: complete, or not at all."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that replaces it once complete; fails at once if nothing can be written there.

    A device or a pipe, such as /dev/stdout, gets the complete bytes instead, and a link stays a link.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as target, tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part"
            yield part
            target.write(part.read_bytes())
        return
    path = Path(os.path.realpath(path))
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".part")
    except OSError as error:
        # The user knows the file, not the temporary one beside it.
        raise OSError(f"{path} cannot be written: {error.strerror}") from None
    os.close(handle)
    part = Path(name)
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; name a file")
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.chmod(_mode(path))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, or of a new one."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
