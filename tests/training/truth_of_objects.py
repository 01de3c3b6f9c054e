"""Photos with doors and wheels over each other, as a Data."""

import numpy as np
from PIL import Image

from maskwright.core.table import Packer

CLASSES = ("background", "left_door", "right_door", "wheel")
PAIRS = [(0, 1)]  # of the classes without the background
PHOTO = (60, 80)


def packed(folder, count, size=PHOTO):
    packer = Packer()
    for number in range(count):
        rng = np.random.default_rng(number)
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        packer.image(f"photo {number}", str(path), size)
        for _ in range(int(rng.integers(0, 7)) if number else 5):
            x, y = rng.uniform(0, size[1] - 12), rng.uniform(0, size[0] - 12)
            w, h = rng.uniform(8, 40, 2)
            polygon = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]).clip(0, (size[1], size[0]))
            packer.region(int(rng.integers(1, 4)), polygons=[polygon.ravel().tolist()])
    return packer.pack(CLASSES)
