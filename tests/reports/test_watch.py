"""Your photos: every run keeps what its model made of them, beside the run before, and the report shows both."""

import json
from pathlib import Path
from typing import Any

import fake_objects
import numpy as np
import pytest

import maskwright as mw
from maskwright.bundles import runs
from maskwright.bundles.runs import Run
from maskwright.core import events
from maskwright.core.errors import RecipeError
from maskwright.data import synthetic
from maskwright.imaging import draw, images
from maskwright.reports import page, watch

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"


def make_photos(folder: Path, count: int) -> Path:
    for number in range(count):
        path = folder / f"trip {number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.encode(synthetic.truth(1, number, size=(60, 80))[0].image, "png"))
    return folder


def finished(home: Path) -> Run:
    """A run folder that ended well, with nothing but its status."""
    run = runs.create(home, "lens", "shapes")
    run.write_record(created=run.name, classes=["background", "disc"], colours=[[0, 0, 0], [230, 159, 0]])
    run.events_file.write_text(json.dumps({"event": "status", "status": "finished", "hint": ""}) + "\n")
    return run


def test_objects_are_drawn_too(tmp_path: Path) -> None:
    data = fake_objects.photos(tmp_path / "photos", 3)
    predictor = fake_objects.predictor(data, skill=1.0)
    run = finished(tmp_path / "runs")
    watch.write(run, predictor, [Path(record.image) for record in data], tmp_path / "photos")
    for record, entry in zip(data, entries(run), strict=True):
        pixels, now = (images.read(run.path / "pictures" / entry[kind]) for kind in ("image", "now"))
        changed = (np.abs(now.astype(int) - pixels) > 40).any(axis=2)
        inside = np.zeros_like(changed)
        for left, top, right, bottom in predictor(record.image).boxes.astype(int):
            inside[max(top - 20, 0) : bottom + 20, max(left - 5, 0) : right + 90] = True
        assert changed.any()
        assert not changed[~inside].any()
    assert "Your photos" in page.render(run.path)[0]


def watched(home: Path, photos: Path, **load: Any) -> Run:
    run = finished(home)
    watch.write(run, mw.load(GOLDEN, **load), watch.photos(str(photos)), photos)
    return run


def entries(run: Run) -> list[dict[str, str]]:
    return list(json.loads((run.path / "pictures" / "index.json").read_text())["watch"])


def test_the_second_run_shows_the_masks_of_the_first(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 4)
    first = watched(tmp_path / "runs", photos)
    assert all("before" not in entry for entry in entries(first))
    second = watched(tmp_path / "runs", photos, tta={"flip": True})
    found = entries(second)
    assert [entry["id"] for entry in found] == [f"trip {n % 2}/{n:02d}.png" for n in (0, 2, 1, 3)]
    triples = [[second.path / "pictures" / entry[kind] for kind in ("image", "now", "before")] for entry in found]
    for old, pictures in zip(entries(first), triples, strict=True):
        assert pictures[2].read_bytes() == (first.path / "pictures" / old["now"]).read_bytes()
        assert {images.read(picture).shape for picture in pictures} == {(60, 80, 3)}
    changed = [(images.read(new) != images.read(old)).any() for _, new, old in triples]
    assert any(changed), "mirrored views change some mask"
    text, notes = page.render(second.path)
    assert "Your photos" in text
    assert first.name in text
    assert text.count('alt="before: ') == 4
    assert notes == ()
    assert "before: " not in page.render(first.path)[0]


def test_only_finished_runs_of_the_same_folder_are_compared(tmp_path: Path) -> None:
    photos, others = make_photos(tmp_path / "photos", 1), make_photos(tmp_path / "others", 1)
    first = watched(tmp_path / "runs", photos)
    watched(tmp_path / "runs", others)
    broken = watched(tmp_path / "runs", photos)
    broken.events_file.write_text(json.dumps({"event": "status", "status": "failed"}) + "\n")
    last = watched(tmp_path / "runs", photos)
    index = json.loads((last.path / "pictures" / "index.json").read_text())
    assert index["watched"] == {"folder": "photos", "found": 1, "previous": first.name}


def test_a_run_folder_can_be_read_alone(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    first = watched(tmp_path / "runs", photos)
    second = watched(tmp_path / "runs", photos)
    for file in sorted(first.path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert page.render(second.path)[0].count('alt="before: ') == 2


def test_many_photos_are_cut_aloud_and_broken_ones_are_named(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 26)
    (photos / "trip 0" / "00.png").write_bytes(b"broken")
    told: list[str] = []
    with events.listening(lambda event: told.append(str(event.fields.get("text")))):
        run = watched(tmp_path / "runs", photos)
    assert len(entries(run)) == watch.MOST - 1
    assert any("the first 24 of 26 photos" in line for line in told)
    assert any("00.png" in line for line in told)
    assert "23 of 26" in page.render(run.path)[0]


@pytest.mark.parametrize("make", [None, "empty", "text"])
def test_a_folder_without_photos_is_refused(tmp_path: Path, make: str | None) -> None:
    folder = tmp_path / "photos"
    if make:
        folder.mkdir()
    if make == "text":
        (folder / "a.txt").write_text("a")
    with pytest.raises(RecipeError, match=r"watch: .*photos: (no such folder|holds no images)"):
        watch.photos(str(folder))
    assert watch.photos(None) == []


def test_a_training_that_could_not_show_them_never_begins(tmp_path: Path) -> None:
    data = synthetic.make(tmp_path / "data", num=4, size=(32, 32))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {data}\nwatch: nowhere\nmodel: {{name: lens, weights: none}}\n")
    with pytest.raises(RecipeError, match="nowhere: no such folder"):
        mw.train(str(recipe), out=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
