"""Laws of the sample cache: it changes nothing but the time, keeps to its budget, is shared, and leaves nothing behind."""

import errno
import multiprocessing
import os
import sys

import numpy as np
import pytest
from PIL import Image

from maskwright.core import events
from maskwright.core.errors import DataError, SetupError
from maskwright.core.table import Packer
from maskwright.imaging import images, masks
from maskwright.training import cache as caches
from maskwright.training.cache import Samples

SIZES = [(40, 52), (64, 48), (32, 32), (90, 30), (41, 53)]


@pytest.fixture
def data(tmp_path):
    """Five photos of different sizes with two overlapping objects each."""
    rng = np.random.default_rng(0)
    packer = Packer()
    for number, (height, width) in enumerate(SIZES):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        packer.image(f"photo {number}", str(path), (height, width))
        packer.region(1, polygons=[(2.0, 3.0, width - 4.5, 5.0, width / 2, height - 2.0)])
        packer.region(2, polygons=[(8.0, 8.0, 20.0, 9.0, 19.0, 22.0, 7.0, 20.0)])
    return packer.pack(["background", "kite", "patch"])


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(folder))
    return folder


def equal(a, b):
    return all((x == y).all() and x.dtype == y.dtype and x.shape == y.shape for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_cached_is_uncached(data, where, fit):
    plain = Samples(data, range(5), size=(32, 32), fit=fit, cache="none")
    kept = Samples(data, range(5), size=(32, 32), fit=fit, cache=where)
    for _ in range(2):
        assert all(equal(plain[i], kept[i]) for i in (3, 0, 4, 1, 2))
    assert kept.num_filled == 5
    assert plain.num_filled == 0


@pytest.mark.parametrize("size", [(32, 32), (56, 60), (128, 100)])  # smaller than most photos, between, larger
@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_samples_are_what_prediction_sees(data, fit, size):
    """What validation and serving see: read_fitted for the image, nearest for the label map."""
    for i, record in enumerate(data):
        image, fitting = images.read_fitted(record.image, size, fit)
        expected = image, images.fit_label_map(masks.label_map(record), fitting)
        assert equal(expected, Samples(data, range(5), size=size, fit=fit, cache="none")[i])


def test_crop_keeps_the_own_size(data):
    samples = Samples(data, [4, 1], size=(32, 32), fit="crop", cache="memory")
    assert [samples[0][1].shape, samples[1][1].shape] == [SIZES[4], SIZES[1]]
    assert samples.id(1) == "photo 1"
    assert samples.cache_bytes == 4 * (41 * 53 + 64 * 48)


def test_a_kept_sample_needs_its_file_no_more(data):
    samples = Samples(data, range(5), size=(32, 32), cache="memory")
    first = [array.copy() for array in samples[1]]
    for number in (1, 2):
        os.remove(data[number].image)
    assert equal(first, samples[1])
    with pytest.raises(DataError) as told:
        samples[2]
    assert told.value.place == data[2].image
    assert "not found" in str(told.value)


@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_a_file_that_changed_is_refused(data, fit):
    samples = Samples(data, range(5), size=(32, 32), fit=fit)
    Image.new("RGB", (10, 20)).save(data[3].image)
    with pytest.raises(DataError, match=r"20 x 10 .* was 90 x 30"):
        samples[3]


def test_a_failure_is_not_kept(data):
    """A sample that could not be read is tried again, not handed out as black."""
    samples = Samples(data, range(5), size=(32, 32), cache="memory")
    hidden = data[0].image + ".away"
    os.rename(data[0].image, hidden)
    with pytest.raises(DataError):
        samples[0]
    os.rename(hidden, data[0].image)
    assert equal(samples.load(0), samples[0])


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_the_budget_is_kept(data, where, fit):
    plain = Samples(data, range(5), size=(32, 32), fit=fit, cache="none")
    for budget in (0, 4095, 4096, 9000, 21_000, 10**9):
        kept = Samples(data, range(5), size=(32, 32), fit=fit, cache=where, cache_gb=max(budget, 1) / 1e9)
        needed = np.cumsum([sum(array.size for array in plain[i]) for i in range(5)])
        assert kept.cache_bytes <= budget
        assert kept.num_cached == (needed <= budget).sum()
        assert all(equal(plain[i], kept[i]) for i in range(5) for _ in range(2))
        assert kept.num_filled == kept.num_cached


@pytest.mark.parametrize(
    ("memory", "disk", "cache", "gb", "expected"),
    [
        (10**6, 10**6, "auto", None, "memory"),
        (4 * 5 * 4096, 0, "auto", None, "memory"),
        (4 * 5 * 4096 - 4, 10**6, "auto", None, "disk"),
        (10**6, 10**6, "auto", 4096 * 5 / 1e9, "memory"),
        (10**4, 10**6, "auto", 1.0, "disk"),  # never more than is free
        (10**6, 10**6, "auto", 1e-6, "none"),
        (10**4, 10**4, "auto", None, "none"),
        (10**6, 10**6, "none", None, "none"),
        (10**6, 10**6, "disk", None, "disk"),
    ],
)
def test_where_and_said_aloud(data, monkeypatch, memory, disk, cache, gb, expected):
    monkeypatch.setattr(caches, "free_memory", lambda: memory)
    monkeypatch.setattr(caches, "_free_disk", lambda folder: disk)
    heard = []
    with events.listening(heard.append):
        samples = Samples(data, range(5), size=(32, 32), cache=cache, cache_gb=gb)
    assert expected == samples.where
    (event,) = heard
    assert {"memory": "in memory", "disk": "on disk", "none": "none"}[expected] in event.fields["text"]
    assert event.fields["cached"] == (0 if expected == "none" else 5)


def test_a_disk_cache_has_no_name(data, own_folder):
    """So nothing is left behind, not even after kill -9."""
    samples = Samples(data, range(5), size=(32, 32), cache="disk")
    assert equal(samples.load(0), samples[0])
    assert list(own_folder.iterdir()) == []


def test_a_full_disk_is_a_sentence(data, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(SetupError, match=r"No space left on device.*lower `train.cache_gb`"):
        Samples(data, range(5), size=(32, 32), cache="disk")


def test_where_no_blocks_can_be_claimed_zeros_are_written(data, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    samples = Samples(data, range(5), size=(32, 32), cache="disk")
    assert samples.cache_bytes == 5 * 4096
    assert equal(samples.load(4), samples[4])


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_what_one_process_decoded_all_find(data, where):
    samples = Samples(data, range(5), size=(32, 32), cache=where)
    expected = samples.load(2)
    child = multiprocessing.get_context("fork").Process(target=samples.__getitem__, args=(2,))
    child.start()
    child.join()
    os.remove(data[2].image)
    assert samples.num_filled == 1
    assert equal(expected, samples[2])


def test_kept_samples_cannot_be_written(data):
    image, label_map = Samples(data, range(5), size=(32, 32), cache="memory")[0]
    for array in (image, label_map):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("index", [-1, 5])
def test_positions_are_checked(data, index):
    with pytest.raises(IndexError):
        Samples(data, range(5), size=(32, 32))[index]


def test_a_container_may_allow_less_than_the_machine_has(tmp_path, monkeypatch):
    groups = tmp_path / "cgroup"
    groups.mkdir()
    monkeypatch.setattr(caches, "CONTROL_GROUPS", groups)
    machine = caches.free_memory()
    assert machine > 10_000
    (groups / "memory.max").write_text("9000\n")
    (groups / "memory.current").write_text("5000\n")
    (groups / "memory.stat").write_text("anon 1\ninactive_file 2000\n")
    assert caches.free_memory() == 6000
    (groups / "memory.max").write_text("max\n")
    assert caches.free_memory() > 10_000
    (groups / "memory").mkdir()
    for name, text in (("limit_in_bytes", "700"), ("usage_in_bytes", "650"), ("stat", "total_inactive_file 7")):
        (groups / "memory" / f"memory.{name}").write_text(text)
    assert caches.free_memory() == 57
