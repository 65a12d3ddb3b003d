"""What a command writes replaces a file, and nothing that is not one."""

import os
import stat
import threading
from pathlib import Path

from bkt_pipeline.cli.files import written_whole


def test_a_link_stays_a_link_and_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    file, link = tmp_path / "folder" / "night.json", tmp_path / "latest.json"
    file.parent.mkdir()
    file.write_text("earlier")
    file.chmod(0o600)
    link.symlink_to(file)
    with written_whole(link) as part:
        part.write_text("complete")
        assert link.read_text() == "earlier"
    assert link.is_symlink()
    assert file.read_text() == "complete"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with written_whole(pipe) as part:
        part.write_text("complete")
    reader.join()
    assert read == ["complete"]
    assert pipe.is_fifo()
