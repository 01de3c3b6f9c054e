"""ModaNet: each shoe gets its own outlines, photos are found by number wherever they lie, the real files give their counts."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fashion_layouts import MODANET
from PIL import Image

from maskwright.core.errors import DataError, RecipeError, SetupError
from maskwright.core.table import Data
from maskwright.data.formats import coco
from maskwright.data.formats.modanet import FORMAT, shoes_apart
from maskwright.data.formats.modanet_photos import number_of
from maskwright.data.inspect import inspect
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data, recognise
from maskwright.imaging import images, masks, stores

SIZE = (60, 40)
LEFT, RIGHT, TOE = [2, 30, 12, 30, 12, 55, 2, 55], [20, 32, 35, 32, 35, 50, 20, 50], [13, 50, 17, 50, 17, 58, 13, 58]
FOOTWEAR = MODANET.index("footwear") + 1


def shoe(id: int, parts: list[list[int]], box: tuple[int, int], **changes: Any) -> dict[str, Any]:
    """box: width and height; its corner is that of nothing, as in the real files."""
    own = {"id": id, "image_id": 5, "category_id": FOOTWEAR, "iscrowd": 0, "segmentation": [list(p) for p in parts]}
    return own | {"bbox": [1, 1, *box], "area": box[0] * box[1]} | changes


def document(*annotations: dict[str, Any], names: tuple[str, ...] = ("0000005.jpg",)) -> dict[str, Any]:
    photos = [{"id": number_of(n), "file_name": n, "width": SIZE[1], "height": SIZE[0], "license": 1} for n in names]
    categories = [{"id": i, "name": name, "supercategory": "fashion"} for i, name in enumerate(MODANET, 1)]
    return {
        "info": {},
        "type": "instances",
        "images": photos,
        "annotations": list(annotations),
        "categories": categories,
    }


def jpeg(size: tuple[int, int] = SIZE) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size[::-1], (90, 20, 20)).save(buffer, "JPEG")
    return buffer.getvalue()


def data_set(folder: Path, content: dict[str, Any], photo: str | None = "0000005.jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modanet2018_instances_train.json").write_text(json.dumps(content))
    if photo:
        (folder / photo).write_bytes(jpeg())
    return folder


def read(path: Path, **options: Any) -> tuple[Data, Ledger]:
    opened = open_data(path, format="modanet", options=options)
    assert len(opened.data.regions) == sum(opened.ledger.count("annotation", fate) for fate in ("used", "repaired"))
    return opened.data, opened.ledger


def outlines(data: Data) -> list[list[list[float]]]:
    return [[part.reshape(-1).tolist() for part in region.polygons] for region in data[0].regions]


PAIRS = {
    "each its own": ([([LEFT, RIGHT], (10, 25)), ([LEFT, RIGHT], (15, 18))], [[LEFT], [RIGHT]]),
    "boxes the other way round": ([([LEFT, RIGHT], (15, 18)), ([LEFT, RIGHT], (10, 25))], [[RIGHT], [LEFT]]),
    "two parts to one": ([([LEFT, TOE, RIGHT], (15, 28)), ([LEFT, TOE, RIGHT], (15, 18))], [[LEFT, TOE], [RIGHT]]),
    "a box of both": ([([LEFT, RIGHT], (33, 25)), ([LEFT, RIGHT], (10, 25))], [[LEFT, RIGHT], [LEFT]]),
    "the other alone": ([([LEFT, RIGHT], (10, 25)), ([RIGHT], (15, 18))], [[LEFT], [RIGHT]]),
    "one shoe of parts": ([([LEFT, TOE], (15, 28))], [[LEFT, TOE]]),
    "nothing would be left of the other": ([([LEFT, RIGHT], (10, 25))], [[LEFT, RIGHT]]),
    "boxes of nothing": ([([LEFT, RIGHT], (3, 3)), ([LEFT], (10, 25))], [[LEFT, RIGHT], [LEFT]]),
}


@pytest.mark.parametrize(("drawn", "kept"), PAIRS.values(), ids=PAIRS)
def test_each_shoe_keeps_the_outlines_that_its_box_measures(drawn: Any, kept: Any, tmp_path: Path) -> None:
    annotations = [shoe(i, parts, box) for i, (parts, box) in enumerate(drawn, 1)]
    data, ledger = read(data_set(tmp_path, document(*annotations)))
    assert outlines(data) == kept
    changed = sum(parts != after for (parts, _), after in zip(drawn, kept))
    assert ledger.count("annotation", "repaired") == changed


def test_what_is_still_drawn_twice_is_used_once(tmp_path: Path) -> None:
    data, ledger = read(data_set(tmp_path, document(shoe(1, [LEFT], (10, 25)), shoe(2, [LEFT], (10, 25)))))
    assert outlines(data) == [[LEFT]]
    assert [line.why for line in ledger.of("ignored")] == ["annotation 1 of this image has the same outlines"]


def test_other_classes_are_left_alone(tmp_path: Path) -> None:
    bags = [shoe(i, [LEFT, RIGHT], (10, 25), category_id=1) for i in (1, 2)]
    data, ledger = read(data_set(tmp_path, document(*bags)))
    assert outlines(data) == [[LEFT, RIGHT]] * 2
    assert ledger.count("annotation", "used") == 2


def test_pairs_can_be_merged_or_left_as_drawn(tmp_path: Path) -> None:
    folder = data_set(tmp_path, document(shoe(1, [LEFT, RIGHT], (10, 25)), shoe(2, [LEFT, RIGHT, TOE], (15, 18))))
    assert outlines(read(folder, pairs="merged")[0]) == [[LEFT, RIGHT, TOE]]
    assert outlines(read(folder, pairs="drawn")[0]) == [[LEFT, RIGHT], [LEFT, RIGHT, TOE]]
    with pytest.raises(RecipeError, match=r"pairs"):
        FORMAT.read(folder, Ledger(), pairs="apar")


@pytest.mark.parametrize("seed", range(30))
def test_no_pixel_is_lost_and_none_gained(seed: int) -> None:
    """Whatever boxes say: the outlines of a group are the same before and after, whoever has them."""
    rng = np.random.default_rng(seed)
    parts = [np.sort(rng.integers(0, 40, 8)).tolist() for _ in range(4)]
    group = []
    for id in range(3):
        own = [parts[i] for i in np.flatnonzero(rng.random(4) < 0.6)] or parts[:1]
        group.append(shoe(id, own, tuple(rng.integers(1, 40, 2).tolist())))
    before = {str(part) for annotation in group for part in annotation["segmentation"]}
    told = shoes_apart(group, range(3))
    after = {
        str(p) for i, a in enumerate(group) for p in a["segmentation"] if i not in told or told[i].fate == "repaired"
    }
    assert after == before


@pytest.mark.parametrize("strange", [None, [], [1, 2, 3], ["a", 1, 2, 3], {"x": 1}])
@pytest.mark.parametrize("drawn", [None, [], [[]], [[1, 2]], [["a"] * 6], {"counts": "x", "size": [60, 40]}, "text", 5])
def test_strange_shoes_have_a_fate(strange: Any, drawn: Any, tmp_path: Path) -> None:
    bad = shoe(1, [LEFT], (1, 1)) | {"bbox": strange, "segmentation": drawn, "area": "big"}
    data, _ = read(data_set(tmp_path, document(bad, shoe(2, [LEFT], (10, 25)), {"id": 3}, None)))  # type: ignore[arg-type]
    assert outlines(data) == [[LEFT]]


# ------------------------------------------------------------------------------------------------- what it is not


def test_a_list_without_labels_is_refused_by_name(tmp_path: Path) -> None:
    content = document()
    del content["annotations"]
    for empty in ({}, {"annotations": []}):
        file = tmp_path / "modanet2018_instances_val.json"
        file.write_text(json.dumps(content | empty))
        assert recognise(file)[0] == "modanet"
        with pytest.raises(DataError, match=r"modanet2018_instances_val.json: holds images only, no annotations"):
            open_data(file)
    data_set(tmp_path, document(shoe(1, [LEFT], (10, 25))))
    opened = open_data(tmp_path)
    assert len(opened.data) == 1
    (line,) = opened.ledger.of("refused")
    assert (line.kind, Path(line.item).name) == ("file", "modanet2018_instances_val.json")


def test_git_lfs_pointers_are_refused_by_name(tmp_path: Path) -> None:
    for part in ("train", "val"):
        pointer = tmp_path / f"modanet2018_instances_{part}.json"
        pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 105924292\n")
        with pytest.raises(DataError, match=r"is a [Gg]it LFS pointer.*git lfs pull"):
            open_data(pointer)
    with pytest.raises(DataError, match=r"modanet2018_instances_train.json: is a git LFS pointer"):
        open_data(tmp_path)


# --------------------------------------------------------------------------------------------------------- photos


@pytest.mark.parametrize("name", ["0000005.jpg", "5.jpg", "00005.JPG", "deep/er/005.png"])
def test_photos_go_by_their_number(name: str, tmp_path: Path) -> None:
    folder = data_set(tmp_path / "labels", document(shoe(1, [LEFT], (10, 25))), photo=None)
    photo = tmp_path / "photos" / name
    photo.parent.mkdir(parents=True)
    photo.write_bytes(jpeg())
    (photo.parent / "0000005.txt").write_text("not a photo")
    data, ledger = read(folder, images=str(tmp_path / "photos"))
    assert data[0].image == str(photo)
    assert ledger.count("image", "used") == 1


def test_a_missing_photo_is_a_line_of_the_ledger(tmp_path: Path) -> None:
    names = ("0000005.jpg", "0000006.jpg", "0000007.jpg")
    data, ledger = read(data_set(tmp_path, document(shoe(1, [LEFT], (10, 25)), names=names)))
    assert len(data) == 1
    assert [line.why for line in ledger.of("refused")] == ["the image file is nowhere below the folder"] * 2


def lmdb_of(path: Path, entries: dict[bytes, bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb")
    with closing(lmdb.open(str(path), map_size=2**24)) as opened, opened.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    (path / "lock.mdb").unlink()
    return path


def test_photos_in_lmdb(tmp_path: Path) -> None:
    """By decimal number without zeros; what kind they are is in their bytes; nothing is written beside them."""
    base = lmdb_of(tmp_path / "photos.lmdb", {b"5": jpeg(), b"50": b"no image", b"6": jpeg((30, 20))})
    before = {p.name: p.read_bytes() for p in base.iterdir()}
    names = ("0000005.jpg", "0000006.jpg", "0000007.jpg", "0000050.jpg")
    folder = data_set(tmp_path / "labels", document(shoe(1, [LEFT], (10, 25)), names=names), photo=None)
    data, ledger = read(folder, images=str(base))
    assert list(data.ids) == ["5", "6"]
    absent, damaged = (line.why for line in ledger.of("refused"))
    assert absent == "the database has no photo of its number"
    assert damaged.startswith("the file is no image of a kind that is read")
    record = data[0]
    assert stores.is_stored(record.image)
    assert stores.suffix(record.image) == ".jpg"
    np.testing.assert_array_equal(images.read(record.image), images.read(jpeg()))
    np.testing.assert_array_equal(images.read(Path(record.image)), images.read(jpeg()))
    assert data[1].size == (30, 20)  # half as large as its labels say: they are scaled
    assert {p.name: p.read_bytes() for p in base.iterdir()} == before
    with pytest.raises(DataError, match=r"lmdb:.*/51: is not in the database"):
        images.read(stores.place(base, "51"))


def test_what_lies_in_lmdb_is_looked_at_and_copied_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = lmdb_of(tmp_path / "photos.lmdb", {b"5": jpeg()})
    folder = data_set(tmp_path / "labels", document(shoe(1, [LEFT], (10, 25))), photo=None)
    data, ledger = read(folder, images=str(base))
    first, second = (inspect(data, ledger, workers=1) for _ in range(2))
    assert ledger.num_refused == 0
    assert first.pixels.sum() == second.pixels.sum() == 60 * 40
    coco.FORMAT.write(data, tmp_path / "out")
    (photo,) = (tmp_path / "out").rglob("*.jpg")
    assert photo.read_bytes() == jpeg()


def test_lmdb_is_read_by_threads_and_by_forked_processes(tmp_path: Path) -> None:
    """A process of its own: what forks should have no other thread."""
    base = lmdb_of(tmp_path / "photos.lmdb", {str(n).encode(): bytes([n]) for n in range(50)})
    script = f"""
import os
from concurrent.futures import ThreadPoolExecutor
from maskwright.imaging import stores
names = [stores.place({str(base)!r}, str(n)) for n in range(50)]
assert stores.content(names[7]) == bytes([7])
child = os.fork()
good = all(stores.content(name) == bytes([n]) for n, name in enumerate(names))
if child == 0:
    os._exit(0 if good else 1)
assert good and os.waitpid(child, 0)[1] == 0
with ThreadPoolExecutor(8) as pool:
    assert list(pool.map(stores.content, names)) == [bytes([n]) for n in range(50)]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_lmdb_without_its_package_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data_set(tmp_path / "labels", document(shoe(1, [LEFT], (10, 25))), photo=None)
    base = tmp_path / "photos.lmdb"
    base.mkdir()
    (base / "data.mdb").write_bytes(bytes(16) + bytes.fromhex("dec0efbe") + bytes(100))
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(SetupError, match=r"needs `lmdb`.*pip install 'maskwright\[lmdb\]'"):
        read(folder, images=str(base))
    monkeypatch.undo()
    pytest.importorskip("lmdb")
    with pytest.raises(DataError, match=r"photos.lmdb: cannot be read as LMDB"):
        read(folder, images=str(base))


def sqlite_of(path: Path, rows: list[tuple[Any, ...]], table: str = "photos") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, post_id INTEGER, path VARCHAR(255))")
        opened.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
    return path


@pytest.mark.parametrize("where", ["/u/p/a_400.jpg?1300", "u/p/a_400.jpg"])
@pytest.mark.parametrize("base", ["", "photos", "images/photos"])
def test_photos_in_a_tree_of_sqlite(where: str, base: str, tmp_path: Path) -> None:
    photo = tmp_path / "doll" / base / "u" / "p" / "a_400.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(jpeg())
    names = ("0000005.jpg", "0000006.jpg", "0000007.jpg", "0000008.jpg")
    table = sqlite_of(tmp_path / "doll" / "my photos#1.db", [(5, 1, where), (6, 1, "gone.jpg"), (7, 1, "../../x.jpg")])
    (tmp_path / "x.jpg").write_bytes(jpeg())
    folder = data_set(tmp_path / "labels", document(shoe(1, [LEFT], (10, 25)), names=names), photo=None)
    data, ledger = read(folder, images=str(table))
    assert [Path(image) for image in data.images] == [photo]
    assert [line.why for line in ledger.of("refused")] == [
        "the image file is nowhere below the folder",
        "the database says it lies outside its folder, at ../../x.jpg",
        "the database has no path for a photo of its number",
    ]
    assert sorted(p.name for p in (tmp_path / "doll").glob("*.db*")) == ["my photos#1.db"]


def test_databases_of_something_else_are_refused(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "labels", document(shoe(1, [LEFT], (10, 25))))
    packed = tmp_path / "chictopia.sql.gz"
    packed.write_bytes(b"\x1f\x8b" + bytes(30))
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + bytes(300))
    cases = {
        packed: "is packed",
        sqlite_of(tmp_path / "o.db", [], "other"): "no such table",
        broken: "database of photos",
    }
    for path, why in cases.items():
        with pytest.raises(DataError, match=why):
            read(folder, images=str(path))
    with pytest.raises(DataError, match="not a folder"):
        read(folder, images=str(folder / "modanet2018_instances_train.json"))


# ------------------------------------------------------------------------------------------------- the real files


@pytest.mark.parametrize(("part", "repaired"), [("val", 816), ("test", 847)])
def test_counts_of_the_real_files(part: str, repaired: int, real_data: Path, tmp_path: Path) -> None:
    """The repair moves outlines from one object to another: objects and pixels per class stay what they are."""
    name = f"modanet/instances_{part}.json"
    facts = json.loads((real_data / "facts.json").read_text())[name]
    one = tmp_path / "one.jpg"
    one.write_bytes(jpeg((600, 400)))
    for entry in json.loads((real_data / name).read_text())["images"]:
        (tmp_path / f"{entry['id']:07d}.jpg").hardlink_to(one)
    opened = open_data(real_data / name, options={"images": str(tmp_path)})
    data, ledger = opened.data, opened.ledger
    assert opened.format == "modanet"
    assert len(data) == facts["images"] == ledger.count("image", "used")
    assert len(data.regions) == facts["annotations"] == ledger.totals()["annotation"]["seen"]
    assert ledger.count("annotation", "repaired") == repaired
    assert sum(not record.regions for record in data) == facts["images_without_annotation"]
    counts = np.bincount(data.regions.label, minlength=len(data.classes))
    assert {n: int(c) for n, c in zip(data.classes, counts) if c} == facts["objects"]
    pixels = sum(masks.class_areas(record, len(data.classes)) for record in data)
    assert {n: int(c) for n, c in zip(data.classes, pixels) if c} == facts["pixels_union_per_class"]
    drawn = [(record.id, r.label, str(r.polygons)) for record in data for r in record.regions]
    assert len(drawn) == len(set(drawn))  # of 354 and 358 that were drawn twice


def test_the_real_folder_has_two_lists_and_no_photo(real_data: Path) -> None:
    opened = open_data(real_data / "modanet")
    assert opened.format == "modanet"
    assert opened.ledger.count("image", "refused") == 1073 + 1053
