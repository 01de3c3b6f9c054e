"""Laws of the mixes: every pixel comes from one of the two samples with its label, shares are weighed, void is respected."""

import cv2
import numpy as np
import pytest
import torch

from maskwright.core.errors import RecipeError
from maskwright.core.recipe import Entry
from maskwright.core.registry import options_of
from maskwright.core.types import VOID
from maskwright.training import MIXES, losses, mix
from maskwright.training.batch import Batch

CLASSES = ("background", "left_door", "right_door", "hood")
PASTES = ("cutmix", "copy_paste")


def pair(seed=0, size=(40, 48)):
    """Two samples whose pixels tell which one they are of and what is their label: (label, column, 0 or 200)."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(2):
        coarse = rng.integers(0, 4, (size[0] // 8, size[1] // 8)).astype(np.uint8)
        labels = np.kron(coarse, np.ones((8, 8), np.uint8))
        labels[:4] = VOID
        image = np.dstack([labels, np.broadcast_to(np.arange(size[1]), size), np.full(size, 200 * number)])
        samples.append((image.astype(np.uint8), labels))
    return samples


def made(name, **options):
    return MIXES[name](CLASSES, **options)


@pytest.mark.parametrize("name", PASTES)
def test_every_pixel_comes_with_its_label_from_where_it_stands(name):
    options = {"blend": 0.0} if name == "copy_paste" else {}
    some = 0
    for seed in range(30):
        sample, other = pair(seed)
        image, labels = made(name, **options).paste(sample, other, np.random.default_rng(seed))
        pasted = image[..., 2] == 200
        assert (image == np.where(pasted[..., None], other[0], sample[0])).all()
        assert (labels == np.where(pasted, other[1], sample[1])).all()
        some += 0 < pasted.mean() < 1
        assert image.dtype == labels.dtype == np.uint8
    assert some > 20


@pytest.mark.parametrize("name", PASTES)
def test_pastes_write_into_nothing_and_repeat(name):
    sample, other = pair()
    for array in (*sample, *other):
        array.flags.writeable = False
    first, again = (made(name).paste(sample, other, np.random.default_rng(3)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


def test_the_rectangle_of_cutmix_has_the_area_that_was_drawn():
    """concentration far above 1 draws shares about a half: half the area where the rectangle lies inside."""
    sample, other = pair(size=(80, 80))
    shares = []
    for seed in range(200):
        image, _ = made("cutmix", concentration=1e6).paste(sample, other, np.random.default_rng(seed))
        pasted = image[..., 2] == 200
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        shares.append(pasted.mean())
    assert max(shares) == pytest.approx(0.5, abs=0.02)
    assert min(shares) > 0.1  # the middle lies inside


def test_copy_paste_takes_whole_classes_and_never_background_or_void():
    for seed in range(40):
        sample, other = pair(seed)
        image, labels = made("copy_paste", blend=0.0).paste(sample, other, np.random.default_rng(seed))
        pasted = image[..., 2] == 200
        taken = set(np.unique(other[1][pasted]).tolist())
        assert taken
        assert taken <= {1, 2, 3}
        assert (pasted == np.isin(other[1], list(taken))).all()
        assert (labels[~pasted] == sample[1][~pasted]).all()


def test_copy_paste_of_chosen_classes():
    seen = set()
    for seed in range(20):
        sample, other = pair(seed)
        paste = made("copy_paste", classes=["hood", "left_door"], blend=0.0).paste
        image, _ = paste(sample, other, np.random.default_rng(seed))
        seen |= set(np.unique(other[1][image[..., 2] == 200]).tolist())
    assert seen == {1, 3}


def test_copy_paste_of_a_sample_without_objects_changes_nothing():
    sample, _ = pair()
    empty = (np.zeros_like(sample[0]), np.zeros_like(sample[1]))
    out = made("copy_paste").paste(sample, empty, np.random.default_rng(0))
    assert out[0] is sample[0]
    assert out[1] is sample[1]


def test_soft_edges_stay_near_the_edge():
    sample, other = pair()
    hard, soft = (
        made("copy_paste", blend=blend).paste(sample, other, np.random.default_rng(1)) for blend in (0.0, 1.0)
    )
    assert (hard[1] == soft[1]).all()
    differs = np.abs(hard[0][..., 2].astype(int) - soft[0][..., 2]) > 2
    pasted = (hard[0][..., 2] == 200).astype(np.uint8)
    kernel = np.ones((7, 7), np.uint8)
    edge = cv2.dilate(pasted, kernel) != cv2.erode(pasted, kernel)
    assert differs.any()
    assert not (differs & ~edge).any()


@pytest.mark.parametrize("name", PASTES)
def test_masks_of_each_class_are_pasted_as_label_maps_are(name):
    """(C, H, W) of 0, 1 and VOID, without background: the same pixels, the same classes."""
    names = CLASSES[1:]
    for seed in range(10):
        sample, other = pair(seed)
        planes = [
            (image, np.where(labels == VOID, VOID, labels == np.arange(1, 4)[:, None, None]).astype(np.uint8))
            for image, labels in (sample, other)
        ]
        flat = MIXES[name](CLASSES).paste(sample, other, np.random.default_rng(seed))
        image, masks = MIXES[name](names).paste(*planes, np.random.default_rng(seed))
        assert (image == flat[0]).all()
        expected = np.where(flat[1] == VOID, VOID, flat[1] == np.arange(1, 4)[:, None, None])
        assert (masks == expected).all()


def test_mixup_weighs_two_losses():
    """The loss of a mixed batch is share * loss(first) + (1 - share) * loss(second), name by name, gradients too."""
    torch.manual_seed(0)
    plain = losses.criterion({"cross_entropy": 1.0, "dice": 0.5})
    logits = torch.randn(2, 4, 8, 8, requires_grad=True)
    first, second = torch.randint(0, 4, (2, 2, 8, 8)).unbind()
    first[0, 0] = VOID
    whole = mix.criterion(plain)
    assert {k: v.item() for k, v in plain(logits, first).items()} == {
        k: v.item() for k, v in whole(logits, first).items()
    }
    found = whole(logits, mix.Two(first, second, 0.3))
    one, other = plain(logits, first), plain(logits, second)
    for name in one:
        assert found[name].item() == pytest.approx(0.3 * one[name].item() + 0.7 * other[name].item(), rel=1e-6)
    sum(found.values()).backward()
    assert torch.isfinite(logits.grad).all()


def test_shares_follow_the_beta_distribution():
    mixer = mix.mixer([Entry(name="mixup", chance=1.0, concentration=0.4)])
    shares = np.array([mixer.share((0, 0, 4, batch)) for batch in range(3000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(0.25 / (2 * 0.4 + 1), abs=0.015)
    assert 0 <= shares.min() < shares.max() <= 1


@pytest.mark.parametrize("name", MIXES)
def test_chance_is_the_share_that_is_mixed(name):
    sample, other = pair()
    for chance in (0.0, 0.3, 1.0):
        mixer = mix.mixer([Entry(name=name, chance=chance)], CLASSES)
        if name == "mixup":
            mixed = [mixer.share((1, 2, 3, n)) != 1 for n in range(400)]
        else:
            mixed = [mixer.paste(sample, (1, 2, 3, n), lambda rng: other)[0] is not sample[0] for n in range(400)]
        assert np.mean(mixed) == pytest.approx(chance, abs=0.08)


def test_draws_of_a_mix_do_not_change_when_another_is_added():
    sample, other = pair()
    alone = mix.mixer([Entry(name="cutmix", chance=1.0)], CLASSES)
    beside = mix.mixer(
        [Entry(name="copy_paste", chance=0.0), Entry(name="cutmix", chance=1.0), Entry(name="mixup")], CLASSES
    )
    for number in range(10):
        a, b = (mixer.paste(sample, (5, number), lambda rng: other) for mixer in (alone, beside))
        assert (a[0] == b[0]).all()


def test_targets_of_a_batch():
    images, first, second = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4), torch.ones(2, 4, 4)
    assert mix.targets(Batch(images, first, ("a", "b")), lambda t: t + 1).mean() == 1
    both = mix.targets(Batch(images, first, ("a", "b"), second, 0.25), lambda t: t + 1)
    assert (both.first.mean(), both.second.mean(), both.share) == (1, 2, 0.25)


@pytest.mark.parametrize("name", MIXES)
def test_options_are_explained(name):
    options = options_of(MIXES[name])
    assert "chance" in options
    assert all(option.help for option in options.values())


def test_nothing_to_mix_is_no_mixer():
    assert mix.mixer([]) is None


@pytest.mark.parametrize(
    ("entries", "classes", "message"),
    [
        ([Entry(name="mixop")], (), "no mix is called `mixop`"),
        ([Entry(name="mixup", alpha=1)], (), "unknown option"),
        ([Entry(name="mixup", concentration=0)], (), "must be above 0"),
        ([Entry(name="cutmix", chance=2)], (), "must be from 0 to 1"),
        ([Entry(name="mixup"), Entry(name="mixup")], (), "mixed once only"),
        ([Entry(name="copy_paste", blend=-1)], (), "must be 0"),
        ([Entry(name="copy_paste", classes=["hod"])], CLASSES, "no class is called `hod`"),
        ([Entry(name="copy_paste")], ("background",), "no class that could be pasted"),
    ],
)
def test_what_cannot_be_is_refused(entries, classes, message):
    with pytest.raises(RecipeError, match=message):
        mix.mixer(entries, classes)
    if not classes:
        with pytest.raises(RecipeError):
            mix.check(entries)
    else:
        mix.check(entries)  # classes are not known before the data are
