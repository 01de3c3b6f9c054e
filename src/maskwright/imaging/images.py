"""Image files to arrays and back: reading, fitting to a network's size, label maps as palette PNG.

Images are uint8 RGB (H, W, 3), EXIF orientation applied; label maps uint8 (H, W). Whatever is wrong with a file ends in
a DataError that names it. `fit` is the only way from a picture to a network's size, `read_fitted` the way from a file.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EISDIR, ENOENT
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.files import written_whole
from maskwright.core.registry import suggestion
from maskwright.core.types import VOID
from maskwright.imaging import stores
from maskwright.imaging.palette import palette as house_palette

Source = str | Path | bytes
Fit = str  # one of FITS
FITS = ("squash", "pad")

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM") + (("AVIF",) if find_spec("PIL._avif") else ())
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"}
)
PAD_COLOUR = (124, 116, 104)  # the mean colour of ImageNet: near zero once a network has normalised it

MAX_PIXELS = 500_000_000
# A small file that says it is a huge picture is a bomb: no real one needs less than a byte for this many pixels.
PIXELS_PER_BYTE, PIXELS_ANYWAY = 10_000, 16_000_000

# EXIF orientation -> the transposition that turns the stored picture upright (EXIF 2.32, tag 0x0112)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_INVERSE = {6: 8, 8: 6}  # the orientation that takes another one back; every other is its own inverse

# what Pillow was seen to raise on broken files, its relatives included
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, EOFError, ArithmeticError, MemoryError,
    NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Probe:
    """What the header of an image file says.

    size: height, width as displayed (EXIF orientation applied).
    stored_size: height, width of the stored pixels.
    format: "JPEG", "PNG", ...; mode: Pillow's name of the pixel kind ("RGB", "L", "P", "CMYK", "I;16", ...).
    orientation: 1..8, 1 = stored upright.
    frames: pictures in the file; only the first is ever read.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]
    format: str
    mode: str
    orientation: int
    frames: int


@dataclass(frozen=True, slots=True)
class Fitting:
    """Where an image of size `original` (H, W) lies inside a network's input of `size` (h, w).

    box: top, left, height, width of the rectangle that the whole image fills; the rest is padding.
    """

    original: tuple[int, int]
    size: tuple[int, int]
    box: tuple[int, int, int, int]


class Refused(Exception):
    """Raised inside `opened` for a picture that is sound but not wanted; it comes out as a DataError with the place."""

    def __init__(self, what: str, hint: str | None = None):
        super().__init__(what)
        self.hint = hint


def read(source: Source, *, upright: bool = True, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """The picture in a file (or in its bytes) as uint8 RGB (H, W, 3).

    16-bit grey keeps its high byte, transparency is laid over white, an animation gives its first frame. Raises
    DataError when it is missing, empty, truncated, damaged, too large (MASKWRIGHT_MAX_PIXELS) or of no kind in FORMATS.

    upright: apply the EXIF orientation.
    at_least: height, width; a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides stay at least
      twice these. The result depends on the file and these options alone.
    """
    with opened(source) as picture:
        orientation = _orientation(picture)
        if at_least is not None:
            _draft(picture, at_least, orientation if upright else 1)
        return np.array(_turned(_rgb(picture), orientation, picture.format, upright))


def read_fitted(source: Source, size: tuple[int, int], how: Fit, *, upright: bool = True) -> tuple[np.ndarray, Fitting]:
    """The picture in a file at a network's size, uint8 RGB (h, w, 3), and where it lies in it.

    Equal to `fit(read(source), plan(...))`; only a JPEG far larger than `size` is decoded at a fraction of its size.
    """
    with opened(source) as picture:
        orientation = _orientation(picture)
        original = _sizes(picture, orientation)[0 if upright else 1]
        fitting = plan(original, size, how)
        _draft(picture, fitting.box[2:], orientation if upright else 1)
        turned = _turned(_rgb(picture), orientation, picture.format, upright)
    return _laid(turned, fitting), fitting


def probe(path: Source) -> Probe:
    """What the header says; no pixel is decoded. Raises DataError as `read` does, but sees no damage further down."""
    with opened(path) as picture:
        orientation = _orientation(picture)
        size, stored = _sizes(picture, orientation)
        photo = picture.format == "MPO"  # a phone's JPEG with a thumbnail or a depth map behind the picture
        try:
            frames = 1 if photo else getattr(picture, "n_frames", 1)
        except _BROKEN:
            frames = 1  # the first may still be good
        return Probe(size, stored, "JPEG" if photo else str(picture.format), picture.mode, orientation, frames)


def plan(original: tuple[int, int], size: tuple[int, int], how: Fit) -> Fitting:
    """How an image of `original` (H, W) is laid into `size` (h, w).

    how: `squash` stretches it over all of `size`; `pad` keeps its aspect and centres it between margins.
    """
    (height, width), (h, w) = original, size
    if how == "squash":
        return Fitting((height, width), (h, w), (0, 0, h, w))
    if how != "pad":
        raise RecipeError(f"no way to fit is called `{how}`", place="fit", hint=suggestion(how, FITS))
    scale = min(h / height, w / width)
    inner_h, inner_w = (max(1, min(side, round(full * scale))) for side, full in ((h, height), (w, width)))
    return Fitting((height, width), (h, w), ((h - inner_h) // 2, (w - inner_w) // 2, inner_h, inner_w))


def long_side(original: tuple[int, int], base_size: int) -> tuple[int, int]:
    """Height, width of an image of `original` (H, W) scaled so that its long side has `base_size` pixels."""
    height, width = original
    scale = base_size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def fit(image: np.ndarray, fitting: Fitting) -> np.ndarray:
    """An image uint8 (H, W, 3) at the network's size, uint8 (h, w, 3): Pillow's bilinear, antialiased where it shrinks.

    `image` has the size `fitting.original`, or is a smaller decoding of it.
    """
    return _laid(Image.fromarray(image), fitting)


def canvas(fitting: Fitting) -> np.ndarray:
    """Where an image is to be laid, uint8 (h, w, 3): PAD_COLOUR outside the box, anything inside it."""
    (height, width), (top, left, h, w) = fitting.size, fitting.box
    rows = np.empty((height, width * 3), np.uint8)
    margin = np.array(PAD_COLOUR * width, np.uint8)  # a row at a time is 15 times as fast as a pixel at a time
    rows[:top], rows[top + h :] = margin, margin
    rows[top : top + h, : 3 * left], rows[top : top + h, 3 * (left + w) :] = (
        margin[: 3 * left],
        margin[3 * (left + w) :],
    )
    return rows.reshape(height, width, 3)


def fit_label_map(label_map: np.ndarray, fitting: Fitting) -> np.ndarray:
    """A label map uint8 (H, W) where `fit` puts its image, uint8 (h, w); padding is VOID.

    Each pixel takes the class under its centre, so none is invented.
    """
    height, width = label_map.shape
    top, left, h, w = fitting.box
    rows, columns = sources((height, width), fitting)
    inner = label_map.take(rows, axis=0).take(columns, axis=1)
    if (h, w) == fitting.size:
        return inner
    canvas = np.full(fitting.size, VOID, np.uint8)
    canvas[top : top + h, left : left + w] = inner
    return canvas


def sources(original: tuple[int, int], fitting: Fitting) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of an image of `original` (H, W) under the centre of each pixel of the box: int64 (h,), (w,)."""
    (height, width), (_, _, h, w) = original, fitting.box
    return (2 * np.arange(h) + 1) * height // (2 * h), (2 * np.arange(w) + 1) * width // (2 * w)


def save_label_map(path: str | Path, label_map: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Writes a label map uint8 (H, W) as an 8-bit palette PNG whose stored values are the class indices.

    palette: uint8 (256, 3), else the house palette. Raises SetupError when it cannot be written.
    """
    assert label_map.dtype == np.uint8
    assert label_map.ndim == 2
    picture = Image.fromarray(np.ascontiguousarray(label_map))
    colours = house_palette(VOID) if palette is None else palette
    picture.putpalette(np.ascontiguousarray(colours, np.uint8).tobytes())
    with written_whole(Path(path)) as temporary:
        picture.save(temporary, format="PNG")


def is_image_name(name: str | Path) -> bool:
    """True for file names with an image's suffix; hidden files and AppleDouble companions (`._name`) are none."""
    base = os.path.basename(name)
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in IMAGE_SUFFIXES


@contextmanager
def opened(source: Source) -> Iterator[Any]:
    """A Pillow picture whose header is sane; whatever Pillow raises inside the block becomes a DataError."""
    place = "the image" if isinstance(source, bytes) else source
    head = b""
    if stores.is_stored(source):
        source = stores.content(str(source))
    try:
        with BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            head, num_bytes = file.read(1024), file.seek(0, os.SEEK_END)
            file.seek(0)
            with _calm, Image.open(file, formats=FORMATS) as picture:
                _check_size(picture.size, num_bytes)
                yield picture
    except Refused as refusal:
        raise DataError(str(refusal), place=place, hint=refusal.hint) from refusal
    except _BROKEN as error:
        what, hint = _complaint(error, head)
        raise DataError(what, place=place, hint=hint) from error


def _laid(picture: Image.Image, fitting: Fitting) -> np.ndarray:
    """The picture resized into its box, the margins filled."""
    top, left, h, w = fitting.box
    inner = picture.resize((w, h), Image.Resampling.BILINEAR)
    if (h, w) == fitting.size:
        return np.array(inner)
    laid = canvas(fitting)
    laid[top : top + h, left : left + w] = np.asarray(inner)
    return laid


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation 1..8, from what stands before the pixels; 1 when there is none or it makes no sense."""
    try:
        value = Image.Image.getexif(picture).get(0x0112)  # PNG's own getexif would decode the pixels first
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _sizes(picture: Image.Image, orientation: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height, width as displayed and as stored."""
    width, height = picture.size
    size = (height, width)
    other = (width, height) if orientation >= 5 else size
    return (size, other) if picture.format == "TIFF" else (other, size)  # Pillow turns TIFF upright by itself


def _draft(picture: Any, at_least: tuple[int, int], orientation: int) -> None:
    """Lets a JPEG decode at a fraction of its size whose sides are still twice `at_least`."""
    height, width = at_least[::-1] if orientation >= 5 else at_least
    if picture.format in ("JPEG", "MPO"):
        picture.draft(None, (2 * width, 2 * height))


def _turned(picture: Image.Image, orientation: int, form: str | None, upright: bool) -> Image.Image:
    if form == "TIFF":  # already upright
        orientation = 1 if upright else _INVERSE.get(orientation, orientation)
    elif not upright:
        orientation = 1
    return picture if orientation == 1 else picture.transpose(_UPRIGHT[orientation])


def _rgb(picture: Image.Image) -> Image.Image:
    """The decoded pixels as mode RGB."""
    picture.load()
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):
        return _from_wide_grey(picture)
    if picture.mode == "F":
        raise Refused("holds 32-bit decimal pixels, which have no fixed range", "save it with 8 or 16 bits")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    above = picture.convert("RGBA")
    page = Image.new("RGB", above.size, "white")
    page.paste(above, mask=above.getchannel("A"))
    return page


def _from_wide_grey(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    if values.dtype.itemsize > 2 and not (values.min() >= 0 and values.max() <= 65535):
        raise Refused("holds 32-bit whole numbers, which have no fixed range", "save it with 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _check_size(size: tuple[int, int], num_bytes: int) -> None:
    width, height = size
    if min(size) < 1:
        raise Refused(f"says it is {width} x {height} pixels")
    hint = "if you trust the file, set the environment variable MASKWRIGHT_MAX_PIXELS to a number of pixels"
    cap = _max_pixels()
    if width * height > (MAX_PIXELS if cap is None else cap):
        raise Refused(f"is too large ({width} x {height} pixels)", hint)
    if cap is None and width * height > PIXELS_ANYWAY + PIXELS_PER_BYTE * num_bytes:
        raise Refused(f"is a decompression bomb ({num_bytes} bytes that say they are {width} x {height} pixels)", hint)


def _max_pixels() -> int | None:
    text = os.environ.get("MASKWRIGHT_MAX_PIXELS", "").replace("_", "")
    return int(text) if text.isdecimal() else None


class _Calm:
    """Inside, Pillow warns of nothing (damaged metadata, size) and keeps to our cap. Threads may overlap: the first one
    in saves Pillow's settings, the last one out puts them back."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock, self.readers = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.readers:
                self.filters, self.pixels = warnings.catch_warnings(), Image.MAX_IMAGE_PIXELS
                self.filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                Image.MAX_IMAGE_PIXELS = max(1, (_max_pixels() or MAX_PIXELS) // 2)  # Pillow raises above twice this
            self.readers += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.readers -= 1
            if not self.readers:
                Image.MAX_IMAGE_PIXELS = self.pixels
                self.filters.__exit__(None, None, None)


_calm = _Calm()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_calm.reset)  # the readers of the parent do not run in a forked worker


def _complaint(error: BaseException, head: bytes) -> tuple[str, str | None]:
    """What is wrong, in words, and what may help."""
    start = head.lstrip().lower()
    words = (str(error) or type(error).__name__).split("\n")[0][:200]
    if isinstance(error, Image.DecompressionBombError):
        return "is too large", "if you trust the file, raise the environment variable MASKWRIGHT_MAX_PIXELS"
    if isinstance(error, MemoryError):
        return "does not fit into memory", None
    if not head and not isinstance(error, UnidentifiedImageError):  # it could not even be opened
        known = {ENOENT: "not found", EISDIR: "is a folder, not an image"}
        return known.get(getattr(error, "errno", None) or 0, f"cannot be read ({words})"), None
    if not head:
        return "is empty (0 bytes)", None
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the image itself", "run `git lfs pull` in its repository"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page (HTML), not an image", "download the image itself"
    if isinstance(error, UnidentifiedImageError):
        return f"is no image of a kind that is read ({', '.join(FORMATS)}), or damaged from its first bytes on", None
    return f"is truncated or damaged ({words})", "copy or download it again"
