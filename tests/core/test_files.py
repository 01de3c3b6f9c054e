"""Files appear whole or not at all; events reach their receivers; a torn log is still read."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.core import events, files
from maskwright.core.errors import SetupError


def test_a_file_appears_whole_with_the_usual_mode(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    files.write_text(target, "hello")
    assert target.read_text() == "hello"
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")

    def torn() -> None:
        with files.written_whole(target) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        torn()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SetupError, match="cannot be written"):
        files.write_text(tmp_path / "file" / "below.txt", "x")
    with pytest.raises(SetupError, match="cannot be written"):
        files.check_writable(tmp_path / "file" / "below")


@pytest.mark.slow
def test_kill_9_never_leaves_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "big.json"
    code = (
        "import sys; from pathlib import Path; from maskwright.core import files\n"
        "n = 0\nwhile True:\n    n += 1; files.write_json(Path(sys.argv[1]), [n] * 200_000); print(n, flush=True)"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        values = json.loads(target.read_text())
        assert len(values) == 200_000
        assert len(set(values)) == 1


def staged_pair(folder: Path, number: int) -> None:
    with files.staged(folder) as staging:
        for name in ("a.bin", "b.txt"):
            (staging / name).write_text(str(number))


def test_what_two_write_into_one_folder_at_once_stays_together(tmp_path: Path) -> None:
    for turn in range(20):
        folder = tmp_path / str(turn)  # that neither finds there
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number, folder=folder: staged_pair(folder, number), range(16)))
        assert {"a.bin", "b.txt"} == {file.name for file in folder.iterdir()}
        assert (folder / "a.bin").read_text() == (folder / "b.txt").read_text()


def test_one_that_fails_takes_no_folder_from_another(tmp_path: Path) -> None:
    def failing(folder: Path) -> None:
        with files.left_clean(folder), files.staged(folder):
            raise KeyError

    for turn in range(20):
        folder = tmp_path / str(turn)
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(failing, folder) for _ in range(8)]
            staged_pair(folder, turn)
        assert all(isinstance(job.exception(), KeyError) for job in jobs)
        assert (folder / "a.bin").read_text() == str(turn)


@pytest.mark.skipif(files.fcntl is None, reason="folders cannot be locked here")
def test_what_a_killed_process_left_goes_and_what_a_living_one_makes_stays(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from maskwright.core import files\n"
        "with files.staged(Path(sys.argv[1])) as folder:\n    (folder / 'half').touch(); print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (left,) = tmp_path.iterdir()
    long_ago = left.stat().st_mtime - 2 * files.DAY
    try:
        os.utime(left, (long_ago, long_ago))
        staged_pair(tmp_path, 1)
        assert left.exists()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    staged_pair(tmp_path, 2)
    assert {"a.bin", "b.txt"} == {file.name for file in tmp_path.iterdir()}


@pytest.mark.skipif(files.fcntl is None, reason="folders cannot be locked here")
def test_a_folder_that_cannot_be_read_can_be_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def unreadable(path: str | Path, flags: int, *rest: int, **more: Any) -> int:
        if path == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", unreadable)
    with files.staged(tmp_path) as folder:
        (folder / "made").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_full_disk_is_said_with_the_folder_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = shutil.Error([("a", "b", f"[Errno {errno.ENOSPC}] No space left on device: 'a' -> 'b'")])
    for error in (OSError(errno.ENOSPC, "No space left on device"), copied):
        assert "no space left on the disk" in str(files.cannot_write(tmp_path, error))
    assert "cannot be written (Read-only" in str(files.cannot_write(tmp_path, OSError(errno.EROFS, "Read-only")))
    free = {str(tmp_path): 10, files.tempfile.gettempdir(): 5}
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[str(path)]))
    assert "TMPDIR" in str(files.cannot_write(tmp_path, copied))
    free[str(tmp_path)] = 5
    assert "TMPDIR" not in str(files.cannot_write(tmp_path, copied))


def test_receivers_hear_events_only_inside_their_block(tmp_path: Path) -> None:
    heard: list[str] = []
    log = tmp_path / "events.jsonl"
    with events.listening(lambda e: heard.append(e.name), events.JsonLines(log)):
        events.say("one")
        assert list(events.progress([1, 2, 3], "count")) == [1, 2, 3]
    events.say("two")
    assert heard == ["say", "progress", "progress"]
    assert [e["text"] for e in events.read_json_lines(log)] == ["one"]
    with log.open("a") as file:
        file.write('{"event": "say", "te')
    assert len(events.read_json_lines(log)) == 1
    with events.listening(events.JsonLines(log)):  # after a crash in the middle of a line the next one is whole
        events.say("three")
    assert [e["text"] for e in events.read_json_lines(log)] == ["one", "three"]


def test_files_written_in_many_threads_leave_the_mask_of_the_process_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: files.write_text(tmp_path / f"{number}.txt", "text"), range(400)))
        assert os.umask(0o027) == 0o027
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o640}
    finally:
        os.umask(before)


def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from rich.console import Console

    from maskwright.core import terminal

    clock = iter([0.0, 1.0, 30.0, 31.0, 90.0, 91.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    out = StringIO()
    shown = terminal.Terminal(Console(file=out, width=100))
    with events.listening(shown):
        for done in (50, 50, 60, 60, 70):
            events.emit("progress", label="train", done=done, total=100, unit="steps")
        events.say("done [really]")
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("train: 60 of 100, about 2 min 00 s left")  # 10 steps in 30 s, 40 to go
    assert lines[1].startswith("train: 70 of 100, about 2 min 15 s left")
    assert lines[2] == "done [really]"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    from maskwright.core.terminal import duration

    assert duration(seconds) == text
