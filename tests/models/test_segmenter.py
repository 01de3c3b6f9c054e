"""The wrapper around a network: scale, padding, auxiliary loss, and BatchNorm of a single value."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from maskwright.core.errors import ModelError
from maskwright.core.types import VOID
from maskwright.models import MODELS
from maskwright.models.segmenter import NORMALIZATIONS, Segmenter, normalization_named, wrap
from maskwright.training.losses import criterion

ODD = (33, 47)


def images_of(batch: int, size: tuple[int, int]) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1)) * 255


def targets_of(batch: int, size: tuple[int, int], num_classes: int) -> Tensor:
    targets = torch.randint(0, num_classes, (batch, *size), generator=torch.Generator().manual_seed(2))
    targets[:, : size[0] // 4] = VOID
    return targets


class TwoAnswers(nn.Module):
    """Logits at full size and auxiliary ones at a quarter of it, in train mode."""

    stride = 4
    aux_weight = 0.4

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 4, stride=4)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return (self.fine(images), self.coarse(images)) if self.training else self.fine(images)


def test_auxiliary_logits_become_a_loss_in_train_mode_alone() -> None:
    losses = criterion({"cross_entropy": 1.0, "dice": 0.5})
    segmenter = wrap(TwoAnswers(), "unit", criterion=losses)
    images, targets = images_of(2, ODD), targets_of(2, ODD, 3)
    found = segmenter.train()(images, targets)
    assert set(found) == {"cross_entropy", "dice", "aux"}
    padded = nn.functional.pad(images / 255, (0, 1, 0, 3), mode="replicate")
    coarse = interpolate(segmenter.network.coarse(padded), size=(36, 48), mode="bilinear", align_corners=False)
    expected = 0.4 * sum(losses(coarse[..., :33, :47], targets).values())
    torch.testing.assert_close(found["aux"], expected)
    assert segmenter(images).shape == (2, 3, *ODD)
    assert set(segmenter.eval()(images, targets)) == {"cross_entropy", "dice"}


def test_padding_repeats_the_border_and_is_cropped_away() -> None:
    class Stripes(torch.nn.Module):
        stride = 4

        def forward(self, x: Tensor) -> Tensor:
            self.seen = x
            return x

    network = Stripes()
    segmenter = wrap(network, "unit")
    images = images_of(1, (5, 3))
    assert torch.equal(segmenter(images), images / 255)
    assert network.seen.shape == (1, 3, 8, 4)
    assert torch.equal(network.seen[..., 5:, :3], (images / 255)[..., 4:5, :].expand(1, 3, 3, 3))
    assert torch.equal(network.seen[..., 3], network.seen[..., 2])


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations_center_their_own_mean(name: str) -> None:
    mean, std = NORMALIZATIONS[name]
    segmenter = Segmenter(torch.nn.Identity(), mean=mean, std=std, stride=1)
    pixels = torch.tensor(mean).view(1, 3, 1, 1) + torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(segmenter(pixels), torch.ones(1, 3, 1, 1))
    assert normalization_named(mean, std) == name


def test_an_unknown_normalization_is_refused() -> None:
    assert normalization_named((1, 2, 3), (1, 1, 1)) is None
    with pytest.raises(ModelError, match="did you mean `imagenet`"):
        wrap(MODELS["lens"](2), "imagenett")


def test_a_single_value_leaves_the_statistics_alone() -> None:
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean.fill_(1.0)
    network = torch.nn.Sequential(norm)
    segmenter = Segmenter(network, mean=(0,) * 3, std=(1,) * 3, stride=1).train()
    assert norm.training
    single = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(network(single), (single - 1) / (1 + norm.eps) ** 0.5)
    assert norm.training
    assert torch.equal(norm.running_mean, torch.ones(2))
    network(torch.rand(2, 2, 1, 1))
    assert not torch.equal(norm.running_mean, torch.ones(2))
    assert segmenter.training


def test_losses_without_a_criterion_are_our_mistake() -> None:
    with pytest.raises(AssertionError, match="criterion"):
        wrap(MODELS["lens"](2))(images_of(1, ODD), targets_of(1, ODD, 2))
