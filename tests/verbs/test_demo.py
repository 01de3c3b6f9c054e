"""The demo's photos are whole or not there, so that a demo that was stopped can be started again."""

from pathlib import Path

import pytest

from maskwright.core.errors import SetupError
from maskwright.data import synthetic
from maskwright.verbs.demo import _photos


def test_photos_are_drawn_once_and_for_this_many(tmp_path: Path) -> None:
    folder = _photos(tmp_path / "demo", 6)
    (photo,) = {p.stat().st_mtime_ns for p in folder.rglob("*.json")}
    assert _photos(tmp_path / "demo", 6) == folder
    assert {p.stat().st_mtime_ns for p in folder.rglob("*.json")} == {photo}
    with pytest.raises(SetupError, match="holds 6 photos of another demo, not 8"):
        _photos(tmp_path / "demo", 8)


def test_a_drawing_that_was_stopped_leaves_no_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(folder: Path, **options: object) -> Path:
        folder.mkdir(parents=True)
        (folder / "half.jpg").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "make", stopped)
        with pytest.raises(KeyboardInterrupt):
            _photos(tmp_path, 4)
    assert not list(tmp_path.iterdir())
    assert len(list(_photos(tmp_path, 4).rglob("*.jpg"))) == 4
