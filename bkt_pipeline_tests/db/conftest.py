"""What the tests of this room share."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from bkt_pipeline.db.attempts_file import Attempts, read_attempts_file
from bkt_pipeline.db.file_columns import FileFormat
from bkt_pipeline_tests.helpers.answer_files import AS_OF


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Attempts]:
    """Reads a file with the given content; keyword arguments are those of FileFormat."""

    def read(
        content: str | bytes, as_of: datetime = AS_OF, name: str = "answers.csv", **form: object
    ) -> Attempts:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_attempts_file(path, as_of, FileFormat(**form))  # type: ignore[arg-type]

    return read
