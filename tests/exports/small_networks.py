"""Networks of a few layers, and photos of blobs, to export."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from maskwright.bundles.bundle import Description
from maskwright.exports.source import Source
from maskwright.models.segmenter import wrap

SIZE = (48, 64)
KNOWN = Description(("a", "b", "c"), ((0, 0, 0),) * 3, SIZE, "squash", {"name": "small"}, "unit")


class Small(nn.Module):
    """Half the size and back: a convolution, one per channel, one of points, a skip."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.each = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False), nn.BatchNorm2d(12), nn.ReLU6())
        self.points = nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.head = nn.Conv2d(12, 3, 3, 1, 1)
        with torch.no_grad():  # channels of very different weights, as trained networks have them
            self.each[0].weight.mul_(torch.logspace(-1.5, 1.5, 12).view(12, 1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = features + self.points(self.each(features))
        return self.head(nn.functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False))


def source_of(
    folder: Path, description: Description = KNOWN, photos: int = 10, network: nn.Module | None = None
) -> Source:
    """A network with random weights that has seen the photos, so that its BatchNorms know their ranges."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    for index in range(photos):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    source = Source(wrap(network or Small(), "unit"), description, tuple(sorted(folder.iterdir())))
    source.segmenter.train()
    with torch.no_grad():
        for _ in range(30):
            source.segmenter(torch.cat([torch.from_numpy(image) for image in source.inputs()]))
    source.segmenter.eval()
    return source
