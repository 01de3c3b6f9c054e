"""Laws of reading, fitting and writing: every kind of pixel, every orientation, every kind of damage."""

import subprocess
import sys
import threading
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskwright.core.errors import DataError, RecipeError, SetupError
from maskwright.core.types import VOID, Coding
from maskwright.imaging import images, masks

RNG = np.random.default_rng(0)


def photo(height=60, width=90):
    """A smooth picture without symmetry, so that lossy formats keep it and every flip shows."""
    y, x = np.mgrid[0:height, 0:width]
    layers = (y * 255 // max(1, height - 1), x * 255 // max(1, width - 1), (x + 2 * y) * 255 // (width + 2 * height))
    return np.stack(layers, axis=-1).astype(np.uint8)


def saved(picture, form, **options):
    """A picture (array or Pillow) as the bytes of a file."""
    buffer = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# --- what the pixels become


def test_rgb_is_read_as_it_is():
    for form in ("PNG", "BMP", "TIFF", "PPM"):
        assert np.array_equal(images.read(saved(photo(), form)), photo())
    assert np.abs(images.read(saved(photo(), "JPEG", quality=95)).astype(int) - photo()).max() < 12
    assert np.array_equal(images.read(saved(photo(), "WEBP", lossless=True)), photo())


def grey(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def palette_picture(transparency=None):
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    picture.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 255])
    return saved(picture, "PNG", **({} if transparency is None else {"transparency": transparency}))


KINDS = {
    "grey": (saved(np.array([[0, 7], [200, 255]], np.uint8), "PNG"), grey([[0, 7], [200, 255]])),
    "1-bit": (saved(Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1"), "PNG"), grey([[0, 255], [255, 0]])),
    "16-bit grey PNG": (saved(np.array([[0, 255], [256, 65535]], np.uint16), "PNG"), grey([[0, 0], [1, 255]])),
    "16-bit grey TIFF": (saved(np.array([[0, 255], [256, 65535]], np.uint16), "TIFF"), grey([[0, 0], [1, 255]])),
    "16-bit grey PPM": (b"P5 2 2 65535\n" + bytes([0, 0, 0, 255, 1, 0, 255, 255]), grey([[0, 0], [1, 255]])),
    "32-bit whole TIFF": (saved(np.array([[0, 255], [256, 65535]], np.int32), "TIFF"), grey([[0, 0], [1, 255]])),
    "palette": (palette_picture(), [[(10, 20, 30), (200, 0, 0)], [(0, 0, 255), (200, 0, 0)]]),
    "palette, one clear entry": (palette_picture(1), [[(10, 20, 30), (255, 255, 255)], [(0, 0, 255), (255, 255, 255)]]),
    "palette, half clear": (palette_picture(bytes([255, 0, 128])), [[(10, 20, 30), (255,) * 3], [(127, 127, 255), (255,) * 3]]),
    "grey + alpha": (saved(np.array([[[9, 255], [9, 0]]], np.uint8), "PNG"), grey([[9, 255]])),
    "RGBA over white": (saved(np.array([[[9, 8, 7, 255], [9, 8, 7, 0]]], np.uint8), "PNG"), [[(9, 8, 7), (255, 255, 255)]]),
    "RGB, one clear colour": (
        saved(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8), "PNG", transparency=(1, 2, 3)),
        [[(9, 8, 7), (255, 255, 255)]],
    ),
    "CMYK JPEG": (
        saved(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG", quality=100),
        np.zeros((16, 16, 3)),
    ),
    "CMYK TIFF": (saved(Image.new("CMYK", (2, 1), (255, 0, 0, 0)), "TIFF"), [[(0, 255, 255), (0, 255, 255)]]),
    "animation": (
        saved(Image.new("L", (2, 1), 9), "GIF", save_all=True, append_images=[Image.new("L", (2, 1), 99)]),
        grey([[9, 9]]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pixel_becomes_rgb(kind):
    data, expected = KINDS[kind]
    found = images.read(data)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert found.flags.c_contiguous
    assert np.array_equal(found, np.asarray(expected))


@pytest.mark.parametrize(
    "pixels", [np.full((2, 2), 1.5, np.float32), np.full((2, 2), 70000, np.int32), np.full((2, 2), -1, np.int32)]
)
def test_pixels_without_a_range_are_refused(pixels):
    with pytest.raises(DataError, match="no fixed range"):
        images.read(saved(pixels, "TIFF"))


# --- orientation

TURNS = {  # EXIF 2.32: what the stored rows and columns are; here: stored -> displayed
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}
EXACT = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "TIFF deflate": {"compression": "tiff_adobe_deflate"}}


@pytest.mark.parametrize("form", [*EXACT, "JPEG"])
@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_is_applied_or_left(form, orientation):
    data = saved(photo(), form.split()[0], exif=exif(orientation), **EXACT.get(form, {"quality": 95}))
    tolerance = 0 if form in EXACT else 12
    for upright, expected in ((True, TURNS[orientation](photo())), (False, photo())):
        found = images.read(data, upright=upright)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= tolerance
        fitted, fitting = images.read_fitted(data, (64, 70), "pad", upright=upright)
        assert fitting == images.plan(expected.shape[:2], (64, 70), "pad")
        assert np.array_equal(fitted, images.fit(found, fitting))
    probe = images.probe(data)
    assert probe.size == TURNS[orientation](photo()).shape[:2]
    assert probe.stored_size == (60, 90)
    assert probe.orientation == orientation
    assert probe.format == form.split()[0]


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 50]
)
def test_malformed_exif_does_not_hinder_reading(block):
    for form in ("JPEG", "PNG", "WEBP"):
        data = saved(photo(), form, exif=block) if block else saved(photo(), form)
        assert images.read(data).shape == photo().shape
        assert images.probe(data).orientation == 1


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(value):
    assert images.probe(saved(photo(), "JPEG", exif=exif(value))).orientation == 1


# --- headers


def test_probe():
    data = saved(Image.new("L", (5, 4), 9), "GIF", save_all=True, append_images=[Image.new("L", (5, 4), 99)])
    assert images.probe(data) == images.Probe((4, 5), (4, 5), "GIF", "P", 1, 2)
    assert images.probe(saved(photo(), "JPEG")) == images.Probe((60, 90), (60, 90), "JPEG", "RGB", 1, 1)


def test_a_phone_photo_with_a_second_picture_is_a_jpeg():
    data = saved(Image.fromarray(photo()), "MPO", save_all=True, append_images=[Image.fromarray(photo(30, 30))])
    probe = images.probe(data)
    assert (probe.format, probe.frames, probe.size) == ("JPEG", 1, (60, 90))
    assert images.read(data).shape == (60, 90, 3)


# --- damage

WHOLE = {
    "JPEG": saved(photo(), "JPEG"),
    "JPEG progressive": saved(photo(), "JPEG", progressive=True),
    "PNG": saved(RNG.integers(0, 255, (60, 90, 3), dtype=np.uint8), "PNG"),
    "GIF": saved(Image.fromarray(photo()).quantize(64), "GIF"),
    "BMP": saved(photo(), "BMP"),
    "WEBP": saved(photo(), "WEBP"),
    "TIFF": saved(photo(), "TIFF"),
    "TIFF deflate": saved(photo(), "TIFF", compression="tiff_adobe_deflate"),
    "PPM": saved(photo(), "PPM"),
}


@pytest.mark.parametrize("form", WHOLE)
def test_a_file_cut_anywhere_is_refused_or_complete(form):
    whole = WHOLE[form]
    picture = images.read(whole)
    refused = 0
    for length in [*range(0, len(whole), max(1, len(whole) // 120)), len(whole) - 3, len(whole) - 2, len(whole) - 1]:
        try:
            assert np.array_equal(images.read(whole[:length]), picture), f"cut at {length} of {len(whole)}"
        except DataError:
            refused += 1
    assert refused > 90


SENTENCES = {
    "empty": (b"", "is empty"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "Git LFS pointer.*git lfs pull",
    ),
    "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "text": (b"hello, this is no image at all", "no image of a kind that is read"),
    "cut": (WHOLE["JPEG"][:-200], "truncated or damaged"),
    "damaged": (WHOLE["PNG"][:200] + b"\0" * 300 + WHOLE["PNG"][500:], "truncated or damaged"),
    "other kind": (b"%PDF-1.4\n", "no image of a kind that is read"),
    "no pixels": (b"P6 0 0 255\n", "damaged"),
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_every_failure_is_a_sentence_with_the_files_name(tmp_path, kind):
    data, sentence = SENTENCES[kind]
    path = tmp_path / "a photo.jpg"
    path.write_bytes(data)
    for source in (path, str(path)):
        for door in (images.read, lambda s: images.read_fitted(s, (8, 8), "pad")):
            with pytest.raises(DataError, match=sentence) as caught:
                door(source)
            assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(DataError, match=sentence):
        images.read(data)


def test_missing_files_folders_and_impossible_names(tmp_path):
    for path, sentence in ((tmp_path / "no.png", "not found"), (tmp_path, "folder"), ("a\0b.png", "cannot be read")):
        with pytest.raises(DataError, match=sentence):
            images.read(path)


def header_of(width, height, extra=0):
    """A PNG that says how large it is, and little else."""
    data = bytearray(saved(np.zeros((1, 1, 3), np.uint8), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data) + b"\0" * extra


def test_bombs_and_the_cap(monkeypatch):
    with pytest.raises(DataError, match="too large"):
        images.read(header_of(30_000, 30_000))
    with pytest.raises(DataError, match=r"decompression bomb.*MASKWRIGHT_MAX_PIXELS"):
        images.read(header_of(10_000, 10_000))
    assert images.probe(header_of(10_000, 10_000, extra=10_000)).size == (10_000, 10_000)
    monkeypatch.setenv("MASKWRIGHT_MAX_PIXELS", "5000")
    with pytest.raises(DataError, match="MASKWRIGHT_MAX_PIXELS"):
        images.read(saved(photo(), "PNG"))
    monkeypatch.setenv("MASKWRIGHT_MAX_PIXELS", "5400")
    assert images.read(saved(photo(), "PNG")).shape == (60, 90, 3)
    monkeypatch.setenv("MASKWRIGHT_MAX_PIXELS", "2_000_000_000")
    assert images.probe(header_of(40_000, 40_000)).size == (40_000, 40_000)


def test_reading_leaves_pillow_and_warnings_as_they_were():
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    images.read(WHOLE["JPEG"])
    with pytest.raises(DataError):
        images.read(b"GIF89a")
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_many_threads_read_at_once():
    before, found = (Image.MAX_IMAGE_PIXELS, list(warnings.filters)), []
    damaged = saved(
        photo(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x01" * 50
    )  # Pillow warns of its metadata

    def work():
        found.extend(images.read(damaged).shape for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(60, 90, 3)] * 400
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


@pytest.mark.slow
def test_hostile_files_end_in_an_array_or_a_sentence(real_data):
    """3,858 files from the test suites of image libraries: no other error, no warning, no crash, little time and memory."""
    program = """
import resource, sys, time, warnings
from pathlib import Path
from maskwright.core.errors import DataError
from maskwright.imaging import images, masks
warnings.simplefilter("error")
slowest, arrays, refused = 0.0, 0, 0
for path in sorted(p for p in Path(sys.argv[1]).rglob("*") if p.is_file()):
    start = time.process_time()
    for door in (images.probe, images.read, lambda p: images.read_fitted(p, (64, 64), "pad"),
                 lambda p: masks.stored_values(p, False), lambda p: masks.stored_values(p, True)):
        try:
            found = door(path)
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
            continue
        if door is images.read:
            arrays += 1
            assert found.dtype.name == "uint8" and found.ndim == 3 and found.shape[2] == 3, path
            assert images.probe(path).size == found.shape[:2], path
    slowest = max(slowest, time.process_time() - start)
status = Path("/proc/self/status")  # what getrusage says on Linux holds the memory of the process that started this one
kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if status.exists():
    kilobytes = int(status.read_text().partition("VmHWM:")[2].split()[0])
print(arrays, refused, slowest, kilobytes / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(real_data / "image-corpus")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    arrays, refused, slowest, megabytes = map(float, done.stdout.split())
    assert arrays > 1000
    assert refused > 1000
    assert slowest < 10
    assert megabytes < 1000


# --- smaller decodings


@pytest.mark.parametrize("at_least", [(10, 10), (30, 40), (75, 100), (100, 150), (149, 225), (300, 450), (1, 1)])
def test_a_reduced_decoding_keeps_twice_what_is_asked(at_least):
    data = saved(photo(600, 901), "JPEG", quality=95)
    found = images.read(data, at_least=at_least)
    full = images.read(data)
    assert any(found.shape[:2] == (-(-600 // s), -(-901 // s)) for s in (1, 2, 4, 8))
    assert found.shape == full.shape or (found.shape[0] >= 2 * at_least[0] and found.shape[1] >= 2 * at_least[1])
    assert np.array_equal(found, images.read(data, at_least=at_least))
    small = [np.asarray(Image.fromarray(a).resize((30, 20), Image.Resampling.BOX)).astype(int) for a in (found, full)]
    assert np.abs(small[0] - small[1]).max() <= 4


def test_only_jpegs_are_reduced_and_turned_sides_are_asked_for_as_displayed():
    assert images.read(saved(photo(600, 900), "PNG"), at_least=(5, 5)).shape == (600, 900, 3)
    data = saved(photo(600, 100), "JPEG", exif=exif(6))  # displayed 100 x 600
    assert images.read(data, at_least=(20, 150)).shape == (50, 300, 3)


@pytest.mark.parametrize("how", images.FITS)
def test_from_file_to_network_size(how):
    data = saved(photo(600, 901), "JPEG", quality=95)
    fitted, fitting = images.read_fitted(data, (64, 48), how)
    assert fitting == images.plan((600, 901), (64, 48), how)  # the true size, not that of the reduced decoding
    assert fitted.shape == (64, 48, 3)
    assert np.abs(fitted.astype(int) - images.fit(images.read(data), fitting)).mean() < 1.5
    assert np.array_equal(fitted, images.read_fitted(data, (64, 48), how)[0])


# --- geometry

sides = st.integers(1, 300)


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from(images.FITS))
def test_a_fitting_lies_inside_the_size_and_keeps_the_aspect_when_padding(original, size, how):
    fitting = images.plan(original, size, how)
    top, left, height, width = fitting.box
    assert (fitting.original, fitting.size) == (original, size)
    assert 0 <= top <= top + height <= size[0]
    assert 0 <= left <= left + width <= size[1]
    assert height >= 1
    assert width >= 1
    if how == "squash":
        assert fitting.box == (0, 0, *size)
    else:
        assert height == size[0] or width == size[1]
        assert abs(size[0] - height - 2 * top) <= 1
        assert abs(size[1] - width - 2 * left) <= 1
        scale = min(size[0] / original[0], size[1] / original[1])
        assert abs(height - original[0] * scale) <= 0.5 or height == 1
        assert abs(width - original[1] * scale) <= 0.5 or width == 1


def test_an_unknown_way_to_fit_is_named():
    with pytest.raises(RecipeError, match="did you mean `squash`"):
        images.plan((3, 4), (5, 6), "squahs")  # type: ignore[arg-type]


def test_padding_has_its_colour_and_its_class():
    fitting = images.plan((10, 20), (30, 30), "pad")
    image = images.fit(np.full((10, 20, 3), 9, np.uint8), fitting)
    label_map = images.fit_label_map(np.full((10, 20), 3, np.uint8), fitting)
    top, left, height, width = fitting.box
    inside = np.zeros((30, 30), bool)
    inside[top : top + height, left : left + width] = True
    assert (image[inside] == 9).all()
    assert (image[~inside] == images.PAD_COLOUR).all()
    assert (label_map[inside] == 3).all()
    assert (label_map[~inside] == VOID).all()


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from(images.FITS))
def test_a_label_map_takes_the_class_under_each_pixels_centre(original, size, how):
    label_map = np.random.default_rng(sum(original)).integers(0, 200, original, dtype=np.uint8)
    fitting = images.plan(original, size, how)
    found = images.fit_label_map(label_map, fitting)
    top, left, height, width = fitting.box
    for y, x in {(0, 0), (height - 1, width - 1), (height // 2, width // 3), (height // 3, width // 2)}:
        centre = int((y + 0.5) * original[0] / height), int((x + 0.5) * original[1] / width)
        assert found[top + y, left + x] == label_map[centre]
    assert set(np.unique(found)) <= set(np.unique(label_map)) | {VOID}


@pytest.mark.parametrize("how", images.FITS)
@pytest.mark.parametrize("size", [(64, 64), (96, 48), (200, 260), (31, 77)])
def test_fitting_and_going_back_keeps_the_inside_of_shapes(how, size):
    original = (120, 170)
    y, x = np.mgrid[0 : original[0], 0 : original[1]]
    disk = (y - 50) ** 2 + (x - 95) ** 2
    label_map = (disk < 40**2).astype(np.uint8)
    fitting = images.plan(original, size, how)
    top, left, height, width = fitting.box
    small = images.fit_label_map(label_map, fitting)[top : top + height, left : left + width]
    back = small[(2 * y + 1) * height // (2 * original[0]), (2 * x + 1) * width // (2 * original[1])]
    rim = 1.5 * max(original[0] / height, original[1] / width, 1)
    interior = (disk < (40 - rim) ** 2) | (disk > (40 + rim) ** 2)
    assert np.array_equal(back[interior], label_map[interior])


@pytest.mark.parametrize("how", images.FITS)
@pytest.mark.parametrize("size", [(64, 64), (96, 48), (200, 260), (512, 384)])
def test_a_shape_sits_in_the_same_place_in_the_image_and_in_its_label_map(how, size):
    y, x = np.mgrid[0:240, 0:320]
    label_map = (((y - 130.2) / 60) ** 2 + ((x - 101.7) / 45) ** 2 < 1).astype(np.uint8)
    image = np.repeat(label_map[..., None] * 255, 3, axis=2)
    fitting = images.plan((240, 320), size, how)
    top, left, height, width = fitting.box
    inside = (slice(top, top + height), slice(left, left + width))
    light = images.fit(image, fitting)[inside][..., 0] / 255
    shape = (images.fit_label_map(label_map, fitting)[inside] == 1).astype(float)
    expected = [(130.2 + 0.5) * height / 240 - 0.5, (101.7 + 0.5) * width / 320 - 0.5]
    for weights in (light, shape):
        grid = np.mgrid[0:height, 0:width]
        centre = [(axis * weights).sum() / weights.sum() for axis in grid]
        assert np.abs(np.array(centre) - expected).max() < 0.5
    assert abs(light.sum() - shape.sum()) < 0.05 * shape.sum()


# --- writing


def test_a_saved_label_map_reads_back_as_indices(tmp_path):
    label_map = RNG.integers(0, 256, (37, 53), dtype=np.uint8)
    path = tmp_path / "deep" / "map.png"
    images.save_label_map(path, label_map)
    every = tuple(range(256))
    assert np.array_equal(masks.read_label_map(path, Coding(every, every), (37, 53)), label_map)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[-3:] == [224, 224, 192]
    colours = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    images.save_label_map(path, label_map.T, colours)
    assert np.array_equal(images.read(path), colours[label_map.T])
    assert [p.name for p in path.parent.iterdir()] == ["map.png"]


def test_a_label_map_of_one_class_keeps_eight_bits(tmp_path):
    images.save_label_map(tmp_path / "a.png", np.zeros((4, 5), np.uint8))
    assert (tmp_path / "a.png").read_bytes()[24] == 8


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written"):
        images.save_label_map(tmp_path / "file" / "map.png", np.zeros((2, 2), np.uint8))


IMAGE_NAMES = ("a.jpg", "b/A.JPEG", "x.tar.png", "a.webp", "a b.tif")
OTHER_NAMES = ("._a.jpg", ".a.png", "b/.hidden.png", "a.mat", "jpg", "a.txt", "a.png.json", "")


def test_image_names():
    assert all(images.is_image_name(name) for name in IMAGE_NAMES)
    assert not any(images.is_image_name(name) for name in OTHER_NAMES)
