"""Label Studio's run-lengths of brush strokes: a stream of bits that unfolds to the R, G, B, A of all pixels, row by row.

32 bits hold how many words there are, 5 bits the size of a word less 1, four times 4 bits the sizes of a count less 1. Then
come pieces: 1 bit (the word repeats, or each is written out), 2 bits that choose the size of the count, the count less 1,
and the word or words. What is painted is where the last of a pixel's four words, its alpha, is not 0.
Source: the README of @thi.ng/rle-pack (K. Schmidt), which Label Studio uses; alpha as in Label Studio's own COCO export.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright.data.formats.shapes import Size, Unusable

CHANNELS = 4
_HEADER_BITS = 32 + 5 + 4 * 4


def decoded(rle: Any, size: Size) -> np.ndarray:
    """The mask bool (H, W) in a list of bytes; Unusable where it is none of an image of `size`."""
    height, width = size
    stream = _Bits(_bytes(rle))
    total = stream.read(32)
    if total != height * width * CHANNELS:
        raise Unusable(
            f"its brush strokes are for {total / CHANNELS:,.0f} pixels, and its image has {height} x {width}"
        )
    word_size = stream.read(5) + 1
    count_sizes = [stream.read(4) + 1 for _ in range(4)]
    values: list[int] = []  # words that stand in a row, and how often each
    lengths: list[int] = []
    done = 0
    while done < total:
        repeats, size_of_count = stream.read(1), count_sizes[stream.read(2)]
        count = stream.read(size_of_count) + 1
        if done + count > total:
            raise Unusable("its brush strokes go on after the last pixel")
        words = [stream.read(word_size)] if repeats else stream.words(count, word_size).tolist()
        values += words
        lengths += [count] if repeats else [1] * count
        done += count
    painted = np.repeat(np.array(values, np.int64) != 0, lengths)
    return painted[CHANNELS - 1 :: CHANNELS].reshape(size)


def _bytes(rle: Any) -> bytes:
    if not isinstance(rle, list) or not all(type(value) is int and 0 <= value <= 255 for value in rle):
        raise Unusable("its `rle` is no list of bytes")
    if len(rle) * 8 < _HEADER_BITS:
        raise Unusable("its `rle` is too short")
    return bytes(rle)


class _Bits:
    """A stream of bits, the highest of each byte first."""

    def __init__(self, content: bytes):
        self._content, self._position = content, 0

    def read(self, num_bits: int) -> int:
        """The next bits, at most 32, as a number."""
        first, end = self._position, self._take(num_bits)
        window = self._content[first // 8 : (end + 7) // 8]
        return int.from_bytes(window, "big") >> (-end % 8) & ((1 << num_bits) - 1)

    def words(self, count: int, size: int) -> np.ndarray:
        """The next words of `size` bits, int64 (count,)."""
        first, end = self._position, self._take(count * size)
        bits = np.unpackbits(np.frombuffer(self._content[first // 8 : (end + 7) // 8], np.uint8))
        own = bits[first % 8 : first % 8 + count * size].reshape(count, size)
        return own.astype(np.int64) @ (1 << np.arange(size)[::-1])

    def _take(self, num_bits: int) -> int:
        self._position += num_bits
        if self._position > 8 * len(self._content):
            raise Unusable("its `rle` breaks off")
        return self._position
