"""Every loss against plain loops, its gradient against differences, and what the recipe may say of it."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.core import events
from maskwright.core.errors import RecipeError
from maskwright.core.types import VOID
from maskwright.training import LOSSES
from maskwright.training.class_distance import FAR, to_other_class
from maskwright.training.losses import COMPARING, criterion
from maskwright.training.pixel_losses import bce, boundary, cross_entropy, focal, ohem
from maskwright.training.region_losses import dice, jaccard, lovasz, tversky

MASK_LOSSES = [name for name in LOSSES if getattr(LOSSES[name], "takes_masks", False)]
BOTH = [(name, False) for name in LOSSES] + [(name, True) for name in MASK_LOSSES]  # name, overlapping classes
Pixels = list[tuple[list[float], int]]


def sample(
    batch: int, classes: int, size: tuple[int, int], seed: int, void: float = 0.2, masks: bool = False
) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *size, generator=draw, dtype=torch.float64) * 3
    if masks:
        targets = torch.randint(0, 2, (batch, classes, *size), generator=draw)
    else:
        targets = torch.randint(0, classes, (batch, *size), generator=draw)
    targets[torch.rand(targets.shape, generator=draw) < void] = VOID
    return logits, targets


def pixels_of(logits: Tensor, targets: Tensor) -> Pixels:
    """(scores, label) of each pixel that counts."""
    rows = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).tolist()
    return [(scores, label) for scores, label in zip(rows, targets.flatten().tolist(), strict=True) if label != VOID]


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers] if len(scores) > 1 else [1 / (1 + math.exp(-scores[0]))]


# ------------------------------------------------------------------------------------- what each is, one pixel a pixel


def plain_cross_entropy(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    return plain_focal(logits, targets, weights, gamma=0)


def plain_focal(logits: Tensor, targets: Tensor, weights: list[float] | None = None, gamma: float = 2) -> float:
    pixels = pixels_of(logits, targets)
    weights = weights or [1.0] * logits.shape[1]
    shares = [softmax(scores)[label] if logits.shape[1] > 1 else 1.0 for scores, label in pixels]
    total = sum(-weights[t] * (1 - p) ** gamma * math.log(p) for p, (_, t) in zip(shares, pixels, strict=True))
    return total / sum(weights[label] for _, label in pixels)


def plain_bce(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    pixels = pixels_of(logits, targets)
    weights = weights or [1.0] * logits.shape[1]
    total = sum(
        weights[c] * math.log1p(math.exp(-z if c == label else z))
        for scores, label in pixels
        for c, z in enumerate(scores)
    )
    return total / (len(pixels) * sum(weights))


def plain_ohem(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    pixels = pixels_of(logits, targets)
    weights = weights or [1.0] * logits.shape[1]
    if logits.shape[1] == 1:
        return 0.0
    rows = sorted(((softmax(scores)[label], weights[label]) for scores, label in pixels), key=lambda row: row[0])
    kept = max(sum(p < 0.7 for p, _ in rows), math.ceil(0.0625 * len(rows)))
    return sum(-w * math.log(p) for p, w in rows[:kept]) / sum(w for _, w in rows[:kept])


def plain_boundary(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    if logits.shape[1] == 1:
        return 0.0
    weights = weights or [1.0] * logits.shape[1]
    total = count = 0.0
    for image, labels in zip(logits, targets.numpy(), strict=True):
        for (y, x), label in np.ndenumerate(labels):
            if label != VOID:
                distance = plain_distance(labels, y, x)
                weight = weights[label] * (1 + 10 * math.exp(-(distance**2) / 50))
                total -= weight * math.log(softmax(image[:, y, x].tolist())[label])
                count += weight
    return total / count


def plain_distance(labels: np.ndarray, y: int, x: int) -> float:
    others = np.argwhere((labels != labels[y, x]) & (labels != VOID))
    return min((math.hypot(y - v, x - u) for v, u in others), default=FAR)


def plain_overlap(
    score: Callable[[float, float, float], float], logits: Tensor, targets: Tensor, weights: list[float] | None
) -> float:
    """The mean of score(hits, invented, missed) over the classes that are there."""
    pixels = [(softmax(scores), label) for scores, label in pixels_of(logits, targets)]
    weights = weights or [1.0] * logits.shape[1]
    total = 0.0
    present = sorted({label for _, label in pixels})
    for c in present:
        hits = sum(shares[c] for shares, label in pixels if label == c)
        invented = sum(shares[c] for shares, label in pixels if label != c)
        missed = sum(1 - shares[c] for shares, label in pixels if label == c)
        total += weights[c] * score(hits, invented, missed)
    return total / sum(weights[c] for c in present)


def plain_dice(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    return plain_overlap(lambda h, i, m: 1 - (2 * h + 1) / (2 * h + i + m + 1), logits, targets, weights)


def plain_jaccard(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    return plain_overlap(lambda h, i, m: 1 - (h + 1) / (h + i + m + 1), logits, targets, weights)


def plain_tversky(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    return plain_overlap(lambda h, i, m: 1 - (h + 1) / (h + 0.3 * i + 0.7 * m + 1), logits, targets, weights)


def plain_lovasz(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    """The Jaccard loss of each set of the pixels that are at least so wrong, times the step of wrongness to the next."""
    pixels = [(softmax(scores), label) for scores, label in pixels_of(logits, targets)]
    weights = weights or [1.0] * logits.shape[1]
    total = 0.0
    present = sorted({label for _, label in pixels})
    for c in present:
        errors = sorted(((abs((label == c) - shares[c]), label == c) for shares, label in pixels), reverse=True)
        size = sum(true for _, true in errors)
        for k in range(1, len(errors) + 1):
            mistaken = errors[:k]
            missed, invented = sum(true for _, true in mistaken), sum(not true for _, true in mistaken)
            step = errors[k - 1][0] - (errors[k][0] if k < len(errors) else 0)
            total += weights[c] * step * (1 - (size - missed) / (size + invented))
    return total / sum(weights[c] for c in present)


PLAIN = {
    "cross_entropy": plain_cross_entropy,
    "bce": plain_bce,
    "focal": plain_focal,
    "ohem": plain_ohem,
    "boundary": plain_boundary,
    "dice": plain_dice,
    "jaccard": plain_jaccard,
    "tversky": plain_tversky,
    "lovasz": plain_lovasz,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_what_plain_loops_count(name: str, classes: int, seed: int) -> None:
    loss, plain = LOSSES[name], PLAIN[name]
    logits, targets = sample(2, classes, (4, 6), seed)
    targets[targets == seed % classes] = classes - 1  # one class is absent
    assert loss(logits, targets).item() == pytest.approx(plain(logits, targets), abs=1e-12)
    assert loss(logits.float(), targets).item() == pytest.approx(plain(logits, targets), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_class_weights_weigh_what_they_say(name: str) -> None:
    logits, targets = sample(2, 3, (4, 6), 0)
    weights = [0.5, 2.0, 0.0]
    expected = PLAIN[name](logits, targets, weights)
    assert LOSSES[name](logits, targets, class_weights=weights).item() == pytest.approx(expected)
    if name != "bce":  # there every class is asked about every pixel
        only_third = torch.where(targets == VOID, VOID, 2)
        assert LOSSES[name](logits, only_third, class_weights=weights) == 0


def as_one_of_two(logits: Tensor, masks: Tensor, channel: int) -> tuple[Tensor, Tensor]:
    """A sigmoid is a softmax against 0."""
    return torch.stack((logits[:, channel] * 0, logits[:, channel]), 1), masks[:, channel]


@pytest.mark.parametrize("name", ["bce", "focal", "boundary"])
def test_overlapping_classes_are_as_many_questions_of_yes_or_no(name: str) -> None:
    logits, masks = sample(2, 3, (5, 6), 1, masks=True)
    plain = {"bce": plain_cross_entropy, "focal": plain_focal, "boundary": plain_boundary}[name]
    counts = [(masks[:, c] != VOID).sum().item() for c in range(3)]
    if name == "boundary":  # the weights of its pixels
        counts = [
            sum(
                1 + 10 * math.exp(-(plain_distance(labels, y, x) ** 2) / 50)
                for labels in masks[:, c].numpy()
                for (y, x), label in np.ndenumerate(labels)
                if label != VOID
            )
            for c in range(3)
        ]
    values = [plain(*as_one_of_two(logits, masks, c)) for c in range(3)]
    assert LOSSES[name](logits, masks).item() == pytest.approx(np.average(values, weights=counts))
    by_class = np.average(values, weights=[2 * counts[0], 0, counts[2]])
    assert LOSSES[name](logits, masks, class_weights=[2.0, 0.0, 1.0]).item() == pytest.approx(by_class)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_overlapping_classes_have_an_overlap_each(name: str) -> None:
    logits, masks = sample(2, 3, (5, 6), 2, masks=True)
    masks[:, 1] = masks[:, 1].where(masks[:, 1] == VOID, 0)  # absent: does not count

    def one(channel: int) -> float:
        truth = masks[:, channel].where(masks[:, channel] != 0, VOID).where(masks[:, channel] != 1, 0)
        share = logits[:, channel].sigmoid()
        hits = share[truth == 0].sum().item()
        invented, missed = share[masks[:, channel] == 0].sum().item(), (1 - share[truth == 0]).sum().item()
        alpha, beta, smooth = {"dice": (0.5, 0.5, 0.5), "jaccard": (1, 1, 1), "tversky": (0.3, 0.7, 1)}[name]
        return 1 - (hits + smooth) / (hits + alpha * invented + beta * missed + smooth)

    assert LOSSES[name](logits, masks).item() == pytest.approx((one(0) + one(2)) / 2)
    assert LOSSES[name](logits, masks, class_weights=[3.0, 1.0, 1.0]).item() == pytest.approx((3 * one(0) + one(2)) / 4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_asks_for_less_than_certainty(smoothing: float) -> None:
    logits, targets = sample(1, 4, (3, 3), 1)
    pixels = [(softmax(scores), label) for scores, label in pixels_of(logits, targets)]
    wanted = [[smoothing / 4 + (1 - smoothing) * (c == label) for c in range(4)] for _, label in pixels]

    def expected(cost: Callable[[float], float]) -> float:
        pairs = zip(wanted, (shares for shares, _ in pixels), strict=True)
        return sum(w * cost(p) for ws, ps in pairs for w, p in zip(ws, ps, strict=True)) / len(pixels)

    options = {"label_smoothing": smoothing}
    assert cross_entropy(logits, targets, **options).item() == pytest.approx(expected(lambda p: -math.log(p)))
    everything = ohem(logits, targets, threshold=1.0, min_kept=1.0, **options)
    assert everything.item() == pytest.approx(expected(lambda p: -math.log(p)))
    focused = expected(lambda p: -math.log(p) * (1 - p) ** 1.5)
    assert focal(logits, targets, gamma=1.5, **options).item() == pytest.approx(focused)
    yes_no = torch.nn.functional.one_hot(targets.where(targets != VOID, 0), 4).permute(0, 3, 1, 2)
    yes_no = yes_no.where((targets != VOID)[:, None], VOID)
    soft = (yes_no == 1) * (1 - smoothing) + smoothing / 2
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft.double(), reduction="none")
    mean = each[yes_no != VOID].mean().item()
    assert bce(logits, targets, **options).item() == pytest.approx(mean)
    assert bce(logits, yes_no, **options).item() == pytest.approx(mean)
    assert focal(logits, yes_no, gamma=0.0, **options).item() == pytest.approx(mean)


# --------------------------------------------------------------------------------------------------- laws of every loss


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("name", "masks"), BOTH)
def test_gradients_are_those_of_differences(name: str, masks: bool, classes: int) -> None:
    logits, targets = sample(2, classes, (2, 3), 3, masks=masks)
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, targets), logits.requires_grad_())


@pytest.mark.parametrize(("name", "masks"), BOTH)
def test_void_counts_nowhere(name: str, masks: bool) -> None:
    logits, targets = sample(2, 3, (4, 6), 4, masks=masks)
    void = (targets == VOID) if masks else (targets == VOID)[:, None].expand_as(logits)
    other = torch.where(void, -logits + 7, logits)
    gradients, values = [], []
    for z in (logits, other):
        z.requires_grad_()
        values.append(LOSSES[name](z, targets))
        values[-1].backward()
        gradients.append(z.grad)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)
    assert (gradients[0][void] == 0).all()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("name", "masks"), BOTH)
def test_nothing_but_void_is_zero_with_a_gradient_of_zero(name: str, masks: bool, classes: int) -> None:
    logits = torch.randn(2, classes, 4, 4, requires_grad=True)
    value = LOSSES[name](logits, torch.full(logits.shape if masks else (2, 4, 4), VOID))
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("name", "masks"), BOTH)
def test_a_perfect_answer_costs_nothing_and_a_wrong_one_most(name: str, masks: bool) -> None:
    targets = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    chosen = torch.nn.functional.one_hot(targets, 3).permute(0, 3, 1, 2)
    right = chosen * 60.0 - 30
    truth = chosen if masks else targets
    perfect, undecided, wrong = (LOSSES[name](z, truth).item() for z in (right, right * 0, -right))
    assert perfect == pytest.approx(0, abs=1e-4)
    assert 0 <= perfect < undecided < wrong


@pytest.mark.parametrize("size", [1e4, 3e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "masks"), BOTH)
def test_extreme_logits_stay_finite(name: str, masks: bool, dtype: torch.dtype, size: float) -> None:
    for truth in (0, 1):
        logits = torch.full((1, 3, 4, 4), size, dtype=dtype)
        logits[:, 1] = -size
        logits.requires_grad_()
        targets = torch.full(logits.shape if masks else (1, 4, 4), truth)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = criterion({name: 1.0}, multilabel=masks)(logits, targets)[name]
        value.backward()
        assert torch.isfinite(value)
        assert value >= 0
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("name", "masks"), BOTH)
def test_neither_memory_layout_nor_order_makes_a_difference(name: str, masks: bool) -> None:
    logits, targets = sample(3, 4, (5, 7), 6, masks=masks)
    expected = LOSSES[name](logits, targets)
    turned = logits.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(LOSSES[name](turned, targets), expected)
    torch.testing.assert_close(LOSSES[name](logits.flip(0), targets.flip(0)), expected)
    torch.testing.assert_close(LOSSES[name](logits.flip(-1), targets.flip(-1)), expected)
    torch.testing.assert_close(LOSSES[name](logits.transpose(2, 3), targets.transpose(-1, -2)), expected)
    if name != "boundary":  # which asks what lies beside a pixel
        order = torch.randperm(35, generator=torch.Generator().manual_seed(0))
        shuffled = [x.flatten(-2)[..., order].reshape(x.shape) for x in (logits, targets)]
        torch.testing.assert_close(LOSSES[name](*shuffled), expected)


@pytest.mark.parametrize(("name", "masks"), BOTH)
def test_losses_are_float32_inside_autocast(name: str, masks: bool) -> None:
    logits, targets = sample(1, 3, (8, 8), 8, masks=masks)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = criterion({name: 1.0}, multilabel=masks)(half, targets)[name]
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(LOSSES[name](half.double(), targets).item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_downhill_helps(name: str) -> None:
    logits, targets = sample(2, 4, (8, 8), 9)
    logits.requires_grad_()
    before = LOSSES[name](logits, targets)
    before.backward()
    assert LOSSES[name](logits.detach() - 0.01 * logits.grad, targets) < before


@pytest.mark.parametrize("name", ["dice", "lovasz"])
def test_overlaps_are_counted_as_well_over_millions_of_pixels(name: str) -> None:
    """float32 sums that grow by one stop growing at 2^24; sums by rows do not."""
    small, large = (torch.zeros(2 if name == "lovasz" else 5, side, side, dtype=torch.int64) for side in (512, 2048))
    values = [LOSSES[name](torch.zeros(len(t), 2, *t.shape[1:]), t).item() for t in (small, large)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert values[1] == pytest.approx({"dice": 1 / 3, "lovasz": 0.5}[name], rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("present", [[], [0], [0, 7, 20], list(range(21))])
def test_jaccard_is_a_number_whatever_the_network_says(present: list[int], scale: float, dtype: torch.dtype) -> None:
    """21 classes at 512 x 512: absent classes, nothing but VOID, logits of any size, as from a network not yet trained."""
    draw = torch.Generator().manual_seed(0)
    logits = (torch.randn(1, 21, 512, 512, generator=draw) * scale).to(dtype).requires_grad_()
    drawn = torch.randint(0, max(1, len(present)), (1, 512, 512), generator=draw)
    targets = torch.tensor(present)[drawn] if present else torch.full((1, 512, 512), VOID)
    with torch.autocast("cpu", torch.bfloat16):
        value = criterion({"jaccard": 1.0})(logits, targets)["jaccard"]
    value.backward()
    assert 0 <= value.item() <= 1
    assert torch.isfinite(logits.grad).all()
    if scale:
        exact = jaccard(logits.detach().double(), targets)
        assert value.item() == pytest.approx(exact.item(), abs=1e-4)


# -------------------------------------------------------------------------------------------- what single ones promise


def test_dice_and_jaccard_are_tversky_losses() -> None:
    logits, targets = sample(2, 4, (16, 16), 10)
    torch.testing.assert_close(tversky(logits, targets, alpha=1.0, beta=1.0), jaccard(logits, targets))
    near_dice = tversky(logits, targets, alpha=0.5, beta=0.5)
    assert near_dice.item() == pytest.approx(dice(logits, targets).item(), abs=0.01)
    assert tversky(logits, targets, alpha=0.9, beta=0.1) != tversky(logits, targets, alpha=0.1, beta=0.9)


def test_focal_with_gamma_zero_is_cross_entropy() -> None:
    logits, targets = sample(2, 4, (6, 6), 11)
    torch.testing.assert_close(focal(logits, targets, gamma=0.0), cross_entropy(logits, targets))
    certain = torch.full((1, 2, 1, 1), 40.0, requires_grad=True)
    focal(certain * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=int), gamma=0.5).backward()
    assert torch.isfinite(certain.grad).all()  # the root's slope is infinite where p is 1


@pytest.mark.parametrize("kept", [0.1, 0.5, 1.0])
def test_ohem_keeps_the_hardest_share(kept: float) -> None:
    logits, targets = sample(2, 4, (6, 6), 12)
    each = sorted((-math.log(softmax(scores)[label]) for scores, label in pixels_of(logits, targets)), reverse=True)
    hardest = each[: math.ceil(kept * len(each))]
    found = ohem(logits, targets, threshold=0.0, min_kept=kept)
    assert found.item() == pytest.approx(sum(hardest) / len(hardest))


def test_lovasz_of_hard_answers_is_one_minus_the_mean_iou() -> None:
    truth = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    answer = torch.tensor([[[0, 0, 1, 2, 2, 2]]])
    logits = torch.nn.functional.one_hot(answer, 3).permute(0, 3, 1, 2) * 200.0 - 100
    assert lovasz(logits, truth).item() == pytest.approx(1 - (1 + 1 / 2 + 2 / 3) / 3)


@pytest.mark.parametrize("void", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("reach", [1, 4, 20])
def test_distances_are_those_to_the_nearest_pixel_of_another_class(reach: int, void: float) -> None:
    draw = np.random.default_rng(reach)
    coarse = draw.integers(0, 3, (3, 4, 5))
    labels = coarse.repeat(3, 1).repeat(3, 2)
    labels[draw.random(labels.shape) < void] = VOID
    labels[2] = 1  # no other class
    found = to_other_class(torch.from_numpy(labels), reach=reach).numpy()
    for n, image in enumerate(labels):
        for (y, x), label in np.ndenumerate(image):
            expected = plain_distance(image, y, x) if label != VOID else None
            if expected is not None:
                assert found[n, y, x] == (round(expected**2) if expected <= reach else FAR**2)


def test_boundary_looks_at_the_border_and_strength_zero_does_not() -> None:
    targets = (torch.arange(64) >= 32).long().expand(1, 8, 64)
    right = torch.nn.functional.one_hot(targets, 2).permute(0, 3, 1, 2) * 8.0 - 4
    at_border, far_away = right.clone(), right.clone()
    at_border[..., 32], far_away[..., 63] = -right[..., 32], -right[..., 63]
    assert boundary(at_border, targets) > 3 * boundary(far_away, targets)
    torch.testing.assert_close(boundary(at_border, targets, strength=0.0), cross_entropy(at_border, targets))


# ------------------------------------------------------------------------------------------------- what a recipe may say


def test_a_criterion_weighs_its_losses() -> None:
    logits, targets = sample(1, 3, (4, 4), 7)
    losses = criterion({"cross_entropy": 2.0, "dice": {"weight": 0.5}, "bce": {}})(logits, targets)
    assert list(losses) == ["cross_entropy", "dice", "bce"]
    assert losses["cross_entropy"].item() == pytest.approx(2 * plain_cross_entropy(logits, targets))
    assert losses["dice"].item() == pytest.approx(0.5 * plain_dice(logits, targets))
    assert losses["bce"].item() == pytest.approx(plain_bce(logits, targets))


CLASSES = ("background", "cat", "dog")
PIXELS = np.array([6_000_000, 30_000, 0])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 2.0, 0], [1, 2, 0]),
        ({"dog": 3, "background": 0.5}, [0.5, 1, 3]),
        ("inverse_frequency", [6_030_000 / (2 * 6_000_000), 6_030_000 / (2 * 30_000), 0]),
        # 1 - 0.999999 ** 6e6 is 0.99752, ** 3e4 is 0.029554: 1.00249 and 33.8362, divided by their mean
        ("effective_number", [0.057551, 1.942449, 0]),
    ],
)
@pytest.mark.parametrize("name", LOSSES)
def test_class_weights_by_order_by_name_and_from_the_data(name: str, given: object, expected: list[float]) -> None:
    logits, targets = sample(2, 3, (4, 4), 9)
    heard = []
    with events.listening(heard.append):
        found = criterion({name: {"class_weights": given}}, CLASSES, PIXELS)(logits, targets)[name]
    wanted = LOSSES[name](logits, targets, class_weights=[float(w) for w in expected])
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    told = [event.fields["text"] for event in heard]
    assert [f"loss.{name}.class_weights: {given} of the training pixels" in text for text in told] == (
        [True] if isinstance(given, str) else []
    )


def test_a_smaller_beta_says_sooner_that_more_pixels_add_little() -> None:
    logits, targets = sample(2, 3, (4, 4), 9)
    parts = {"cross_entropy": {"class_weights": "effective_number", "class_beta": 0.9}}
    found = criterion(parts, CLASSES, PIXELS)(logits, targets)["cross_entropy"]
    assert found.item() == pytest.approx(plain_cross_entropy(logits, targets, [1, 1, 0]))


MISTAKES = [
    ({}, "loss: names no loss"),
    ({"dise": 1.0}, "no loss is called `dise`; did you mean `dice`"),
    ({"dice": -1.0}, "loss.dice: the weight of a loss is a number from 0, not `-1.0`"),
    ({"dice": float("nan")}, "not `nan`"),
    ({"dice": True}, "not `True`"),
    ({"dice": {"weight": "much"}}, "not `much`"),
    ({"dice": 0.0}, "all weights are 0"),
    ({"cross_entropy": {"weihgt": 1.0}}, "loss.cross_entropy.weihgt: unknown option; did you mean `weight`"),
    ({"cross_entropy": {"label_smoothing": 1.5}}, "loss.cross_entropy.label_smoothing: can be 0 up to 1, not 1.5"),
    ({"focal": {"gamma": -1}}, "loss.focal.gamma: can be 0 or more, not -1"),
    ({"focal": {"gamma": "big"}}, "loss.focal.gamma: .*number"),
    ({"tversky": {"alpha": float("nan")}}, "loss.tversky.alpha: can be 0 or more"),
    ({"tversky": {"alpha": 0, "beta": 0}}, "loss.tversky: .* no mistake would cost anything"),
    ({"ohem": {"threshold": 1.1}}, "loss.ohem.threshold: can be 0 to 1"),
    ({"ohem": {"min_kept": 0}}, "loss.ohem.min_kept: can be above 0, at most 1"),
    ({"boundary": {"width": 0}}, "loss.boundary.width: can be above 0"),
    ({"dice": {"class_weights": "inverse"}}, "loss.dice.class_weights: cannot be `inverse`; it can be .numbers"),
    ({"dice": {"class_weights": 3}}, "cannot be `3`"),
    ({"dice": {"class_weights": [1, -1, 1]}}, "are numbers from 0, not `-1`"),
    ({"dice": {"class_weights": {"cat": float("inf")}}}, "are numbers from 0, not `inf`"),
    ({"dice": {"class_weights": "effective_number", "class_beta": 1.0}}, "class_beta: can be 0 up to 1"),
    ({"dice": {"class_weights": [1, 1, 1], "class_beta": 0.9}}, "class_beta: does nothing without effective numbers"),
    ({"focal": {"class_beta": 0.9}}, "class_beta: does nothing without effective numbers"),
]
MISTAKES_WITH_CLASSES = [
    ({"focal": {"class_weights": [1.0]}}, "has 1 number for 3 classes; one a class, in this order: background, cat"),
    (
        {"focal": {"class_weights": {"cta": 2}}},
        "loss.focal.class_weights: no class is called `cta`; did you mean `cat`",
    ),
    ({"focal": {"class_weights": [0, 0, 0]}}, "all 0"),
]


@pytest.mark.parametrize(("parts", "words"), MISTAKES)
def test_what_a_recipe_may_not_say(parts: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        criterion(parts)


@pytest.mark.parametrize(("parts", "words"), MISTAKES + MISTAKES_WITH_CLASSES)
def test_what_a_recipe_may_not_say_of_these_classes(parts: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        criterion(parts, CLASSES, PIXELS)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_with_one_class_alone_a_loss_learns_or_is_refused(name: str) -> None:
    logits = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.zeros(2, 8, 8, dtype=torch.int64)
    targets[:, 4:] = VOID
    if name in COMPARING:
        with pytest.raises(RecipeError, match=r"compares classes, and the data have one, `cat`.*bce or dice"):
            criterion({name: 1.0}, ("cat",), np.array([64]))
        return
    criterion({name: 1.0}, ("cat",), np.array([64]))(logits, targets)[name].backward()
    assert float(logits.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", sorted(set(LOSSES) - set(MASK_LOSSES)))
def test_one_class_a_pixel_does_not_go_with_multilabel(name: str) -> None:
    with pytest.raises(RecipeError, match=f"loss.{name}: gives each pixel one class.*`bce`, `focal`"):
        criterion({name: 1.0}, multilabel=True)


def test_which_losses_know_overlapping_classes() -> None:
    assert sorted(MASK_LOSSES) == ["bce", "boundary", "dice", "focal", "jaccard", "tversky"]


@pytest.mark.parametrize("name", LOSSES)
def test_every_option_says_what_it_does(name: str) -> None:
    assert LOSSES.summary(name)
    assert "weight" not in LOSSES.options(name)  # that is the loss's own weight in a recipe
    assert all(option.help and option.default is not option.required for option in LOSSES.options(name).values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_jaccard_trains_from_scratch_without_ever_losing_its_number(dtype: torch.dtype) -> None:
    """As the VOC project: 21 classes, RMSprop at 0.01, one image a step, most classes absent, some images nothing but VOID."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.BatchNorm2d(16), torch.nn.Conv2d(16, 21, 1)
    )
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.01, momentum=0.9, eps=1e-4)
    loss = criterion({"jaccard": 1.0}, [str(c) for c in range(21)], np.ones(21, np.int64))
    values = []
    for step in range(60):
        targets = torch.zeros(1, 32, 32, dtype=torch.int64) if step % 7 else torch.full((1, 32, 32), VOID)
        label = (step % 3) + 4
        targets[:, 8:24, 8:24] = label if step % 7 else VOID
        images = torch.randn(1, 3, 32, 32) + (targets == label)[:, None] * label
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = network(images)
        value = loss(logits, targets)["jaccard"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert all(0 <= value <= 1 for value in values)
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert np.mean([v for v in values[-14:] if v]) < np.mean([v for v in values[:14] if v])
