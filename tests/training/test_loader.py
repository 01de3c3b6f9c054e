"""Laws of the loader: what an epoch holds depends on seed, epoch and position alone; errors arrive, workers never stay."""

import errno
import gc
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.core.errors import DataError, OutOfMemory, SetupError
from maskwright.core.recipe import Entry
from maskwright.core.table import Packer
from maskwright.training import crew
from maskwright.training import loader as loaders
from maskwright.training import mix as mixers
from maskwright.training.augment import augmenter
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader

SIZE = (24, 32)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are processes on Linux only")


def make_data(folder, count):
    """Photos of one colour each, that of their number; the first half is source 0, the rest source 1."""
    packer = Packer()
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", (SIZE[1], SIZE[0]), (number, 2 * number, 255 - number)).save(path)
        packer.image(f"photo {number}", str(path), SIZE, source=int(number >= count // 2))
        packer.region(1, polygons=[(2.0, 3.0, 28.0, 4.0, 15.0, 20.0)])
    return packer.pack(["background", "kite"])


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("photos"), 22)


@pytest.fixture(params=["processes", "threads"])
def kind(request, monkeypatch):
    monkeypatch.setattr(crew, "FORK_IS_SAFE", request.param == "processes" and sys.platform == "linux")
    return request.param


@pytest.fixture
def make(photos):
    """Makes loaders and ends their workers."""
    made = []

    def make(data=photos, strength="hard", cache="memory", **options):
        samples = Samples(data, range(len(data)), size=SIZE, cache=cache)
        made.append(Loader(samples, augmenter(strength, SIZE), **{"batch": 4, "workers": 0} | options))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def kept(batches):
    """Everything in some batches, as plain values that can be compared."""
    return [(batch.ids, batch.images.numpy().tobytes(), batch.targets.numpy().tobytes()) for batch in batches]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_same_with_any_number_of_workers(make, kind, workers):
    alone, crew = make(), make(workers=workers)
    for epoch in (0, 1, 7):
        assert kept(alone.epoch(epoch)) == kept(crew.epoch(epoch))


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_the_same_with_any_cache(make, kind, cache):
    assert kept(make().epoch(3)) == kept(make(cache=cache, workers=2).epoch(3))


def test_more_workers_than_samples_in_a_batch(make, kind):
    assert kept(make(batch=2).epoch(0)) == kept(make(batch=2, workers=5).epoch(0))


def test_epochs_and_seeds_differ(make):
    loader = make()
    seen = [kept(loader.epoch(0)), kept(loader.epoch(1)), kept(make(seed=1).epoch(0)), kept(make(seed=-1).epoch(0))]
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])
    assert seen[0] == kept(make().epoch(0))


def test_an_image_is_augmented_anew_in_every_epoch(make):
    loader = make()
    looks = {}
    for epoch in range(2):
        for batch in loader.epoch(epoch):
            for name, image in zip(batch.ids, batch.images.numpy(), strict=True):
                looks.setdefault(name, set()).add(image.tobytes())
    assert sum(len(different) == 2 for different in looks.values()) > 10


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_where_it_was(make, workers):
    whole = kept(make().epoch(5))
    for first in range(len(whole) + 1):
        assert whole[first:] == kept(make(workers=workers).epoch(5, first))


def test_every_sample_once_an_epoch(make):
    loader = make(batch=2)
    assert sorted(loader.order(3)) == list(range(22))
    assert sorted(name for batch in loader.epoch(3) for name in batch.ids) == sorted(loader.samples.data.ids)


@pytest.mark.parametrize(
    ("batch", "leftover", "sizes"),
    [
        (4, False, [4] * 5),
        (4, True, [4] * 5 + [2]),
        (11, False, [11, 11]),
        (22, False, [22]),
        (22, True, [22]),
        (50, False, [22]),
        (1, False, [1] * 22),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_sizes_of_batches(make, batch, leftover, sizes, workers):
    loader = make(batch=batch, leftover=leftover, workers=workers)
    batches = list(loader.epoch(0))
    assert (
        sizes == [len(b.ids) for b in batches] == [len(b.images) for b in batches] == [len(b.targets) for b in batches]
    )
    assert len(loader) == len(sizes)


@pytest.mark.parametrize("weight", [0, 0.25, 0.5, 1, 1.5, 2, 3.3])
def test_weights_are_shares_of_samples(make, weight):
    loader = make(weights={1: weight}, batch=1)
    extra = round((weight - math.floor(weight)) * 11)
    epochs = [Counter(loader.order(epoch).tolist()) for epoch in range(8)]
    for counts in epochs:
        assert all(counts[i] == 1 for i in range(11))
        assert sum(counts[i] for i in range(11, 22)) == math.floor(weight) * 11 + extra
        assert all(0 <= counts[i] - math.floor(weight) <= 1 for i in range(11, 22))
    assert len(loader) == sum(epochs[0].values())
    if extra:
        assert len({tuple(sorted(counts.items())) for counts in epochs}) > 1  # another part each time


def test_copies_of_an_image_differ(make):
    loader = make(weights={0: 2, 1: 0}, batch=22)
    (batch,) = loader.epoch(0)
    looks = {}
    for name, image in zip(batch.ids, batch.images.numpy(), strict=True):
        looks.setdefault(name, set()).add(image.tobytes())
    assert len(batch.ids) == 22
    assert sum(len(different) for different in looks.values()) > 20


MIXED = [Entry(name="mixup", concentration=1.0), Entry(name="cutmix"), Entry(name="copy_paste")]


@pytest.fixture
def mixer():
    return mixers.mixer(MIXED, ["background", "kite"])


def kept_mixed(batches):
    """As `kept`, with the second targets and the shares of mixed batches."""
    batches = list(batches)
    others = [None if batch.others is None else batch.others.numpy().tobytes() for batch in batches]
    return list(zip(kept(batches), others, [batch.share for batch in batches], strict=True))


@pytest.mark.parametrize("workers", [1, 3])
def test_mixed_batches_are_the_same_with_any_number_of_workers_and_after_a_resume(make, kind, mixer, workers):
    alone, crew = make(mix=mixer, weights={1: 2}), make(mix=mixer, weights={1: 2}, workers=workers)
    for epoch in (0, 1, 5):
        whole = kept_mixed(alone.epoch(epoch))
        assert whole == kept_mixed(crew.epoch(epoch))
        assert whole[2:] == kept_mixed(crew.epoch(epoch, 2))
    shares = [share for epoch in range(6) for _, _, share in kept_mixed(alone.epoch(epoch))]
    assert 0.2 < np.mean([share < 1 for share in shares]) < 0.8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mixed_batch_has_second_targets_and_one_share(make, mixer, workers):
    seen = set()
    for epoch in range(4):
        for batch in make(mix=mixer, workers=workers).epoch(epoch):
            seen.add(batch.others is None)
            assert (batch.others is None) == (batch.share == 1)
            assert batch.others is None or batch.others.shape == batch.targets.shape
    assert seen == {True, False}


def test_a_mixed_image_is_the_sum_of_two_by_their_share(make):
    """Photos of one colour each, unchanged: red tells which, and a mixed one lies between two of them."""
    loader = make(strength="none", mix=mixers.mixer([Entry(name="mixup", chance=1.0, concentration=1.0)]))
    for batch in loader.epoch(0):
        for name, image in zip(batch.ids, batch.images.numpy(), strict=True):
            first, red = int(name.split()[1]), image[0].mean()
            second = (red - batch.share * first) / (1 - batch.share)
            assert abs(second - round(second)) * (1 - batch.share) < 0.51
            assert -1 < second * (1 - batch.share) < 22


def test_what_is_not_mixed_is_as_without_mix(make, mixer):
    plain, mixed = make(), make(mix=mixers.mixer([Entry(name="cutmix", chance=0.5)]))
    same = [
        (a == b).all().item()
        for one, other in zip(plain.epoch(0), mixed.epoch(0), strict=True)
        for a, b in zip(one.images, other.images, strict=True)
    ]
    assert 3 < sum(same) < 17


def test_the_other_sample_keeps_the_weights_of_sources(make):
    loader = make(strength="none", weights={1: 0}, mix=mixers.mixer([Entry(name="cutmix", chance=1.0)]))
    for batch in loader.epoch(0):
        assert batch.images[:, 0].max() < 11  # red is the photo's number; those of source 1 never come


def test_lent_batches_of_mixes_come_back(make, mixer):
    loader = make(mix=mixer, workers=2)
    held = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    expected = kept_mixed(batch for epoch in range(3) for batch in make(mix=mixer).epoch(epoch))
    assert kept_mixed(held) == expected
    del held
    assert kept_mixed(loader.epoch(0)) == expected[:5]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_base_size_scales_the_long_side_before_windows_are_cut(tmp_path, cache):
    packer = Packer()
    for number, size in enumerate([(40, 80), (90, 30), (50, 50)]):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", size[::-1], (10, 20, 30)).save(path)
        packer.image(f"{number}", str(path), size)
        packer.region(1, polygons=[(0.0, 0.0, size[1] / 2, 0.0, size[1] / 2, size[0], 0.0, size[0])])
    data = packer.pack(["background", "half"])
    samples = Samples(data, range(3), size=(16, 16), fit="crop", base_size=60, cache=cache)
    for index, expected in enumerate([(30, 60), (60, 20), (60, 60)]):
        image, labels = samples[index]
        assert image.shape == (*expected, 3)
        assert labels.shape == expected
        assert (labels == (np.arange(expected[1]) < expected[1] / 2)).all()
    loader = Loader(samples, augmenter("none", (16, 16), fit="crop"), batch=3, workers=0)
    (batch,) = loader.epoch(0)
    assert batch.images.shape == (3, 3, 16, 16)
    assert (batch.targets != 255).all()  # every image is larger than the window


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_batch_is(make, workers):
    loader = make(strength="none", workers=workers)
    for batch in loader.epoch(0):
        assert batch.images.shape == (4, 3, *SIZE)
        assert batch.targets.shape == (4, *SIZE)
        assert batch.images.dtype == batch.targets.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for name, image, target in zip(batch.ids, batch.images, batch.targets, strict=True):
            number = int(name.split()[1])
            assert image[:, 5, 7].tolist() == [number, 2 * number, 255 - number]
            assert (target.numpy() == loader.samples[number][1]).all()


def test_batches_are_the_callers_own(make, kind):
    """Whoever keeps batches finds them unchanged, also after their memory could have been used again."""
    expected = [kept(make().epoch(epoch)) for epoch in range(3)]
    loader = make(workers=2)
    batches = [list(loader.epoch(epoch)) for epoch in range(3)]
    assert expected == [kept(epoch) for epoch in batches]
    only_targets = [batch.targets for batch in loader.epoch(0)]
    list(loader.epoch(1))
    assert [t.numpy().tobytes() for t in only_targets] == [targets for _, _, targets in expected[0]]


def test_memory_is_lent_and_comes_back(make):
    loader = make(workers=2)
    for epoch in range(3):
        for _ in loader.epoch(epoch):
            pass
    assert sorted(loader._crew._free) == list(range(crew.SLOTS)) or len(loader._crew._free) == crew.SLOTS - 1
    del _
    assert sorted(loader._crew._free) == list(range(crew.SLOTS))


def test_an_epoch_may_be_left_early(make, kind):
    loader, alone = make(workers=2), make()
    for _ in range(5):
        batches = loader.epoch(0)
        next(batches)
        batches.close()
        assert kept(alone.epoch(1)) == kept(loader.epoch(1))
    del batches
    gc.collect()
    assert sorted(loader._crew._free) == list(range(crew.SLOTS))  # none is lost


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_lost_file_is_a_data_error_with_its_path(make, kind, tmp_path, workers):
    data = make_data(tmp_path, 12)
    loader = make(data, cache="none", workers=workers)
    before = kept(loader.epoch(0))
    lost = data[int(loader.order(0)[6])].image
    os.rename(lost, lost + ".away")
    batches = loader.epoch(0)
    assert before[0] == kept([next(batches)])[0]
    with pytest.raises(DataError) as told:
        list(batches)
    assert told.value.place == lost
    assert "not found" in told.value.what
    os.rename(lost + ".away", lost)
    assert before == kept(loader.epoch(0))


@LINUX
def test_a_mistake_of_ours_is_told_too(make, capfd):
    loader = make(workers=2)
    loader.augment = lambda image, label_map, rng: 1 / 0
    with pytest.raises(RuntimeError, match="traceback stands above"):
        list(loader.epoch(0))
    assert "ZeroDivisionError" in capfd.readouterr().err


@LINUX
def test_a_killed_worker_is_told_and_replaced(make):
    loader = make(workers=2)
    expected = kept(loader.epoch(0))
    os.kill(loader._crew._workers[0].pid, signal.SIGKILL)
    with pytest.raises(OutOfMemory, match="was killed"):
        list(loader.epoch(0))
    assert expected == kept(loader.epoch(0))


@LINUX
def test_workers_that_cannot_be_started_are_told(make, monkeypatch):
    def only_one():
        started.append(None)
        if len(started) > 1:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    started, fork, loader = [], os.fork, make(workers=3)
    monkeypatch.setattr(os, "fork", only_one)
    with pytest.raises(SetupError, match=r"worker 2 of 3 .*lower `train.workers`"):
        loader.epoch(0)
    monkeypatch.undo()
    assert kept(make().epoch(0)) == kept(loader.epoch(0))


@LINUX
def test_close_ends_the_workers(make):
    loader = make(workers=3)
    expected = kept(loader.epoch(0))
    workers = list(loader._crew._workers)
    loader.close()
    loader.close()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert expected == kept(loader.epoch(0))


def test_workers_are_chosen(make, monkeypatch):
    for processors, expected in ((1, 0), (2, 1), (4, 2), (64, 8)):
        monkeypatch.setattr(loaders, "usable_cores", lambda processors=processors: processors)
        assert make(workers="auto").workers == expected


SCRIPT = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
sys.path.insert(0, {here!r})
from test_loader import SIZE, Loader, Samples, augmenter, make_data
data = make_data(pathlib.Path({folder!r}), 8)
loader = Loader(Samples(data, range(8), size=SIZE), augmenter("soft", SIZE), batch=2, workers=3)
for epoch in range(10**9):
    for batch in loader.epoch(epoch):
        if not epoch:
            print(*[worker.pid for worker in loader._crew._workers], flush=True)
            epoch = 1
"""


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_orphans(tmp_path, number):
    """However the training ends, its workers end with it."""
    script = SCRIPT.format(here=os.path.dirname(__file__), folder=str(tmp_path))
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert run.stdout is not None
    workers = [int(pid) for pid in run.stdout.readline().split()]
    assert len(workers) == 3
    assert all(os.path.exists(f"/proc/{pid}") for pid in workers)
    run.send_signal(number)
    run.stdout.close()
    assert run.wait(30) != 0
    until = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in workers if os.path.exists(f"/proc/{pid}")] == []


@LINUX
def test_workers_hold_little_of_their_own(make):
    """Data is shared with the workers, not copied: 200 MB of it cost them nothing."""
    loader = make(workers=2)
    ballast = np.ones(25_000_000)
    objects = [str(n) for n in range(200_000)]  # what the garbage collector would touch
    list(loader.epoch(0))
    for worker in loader._crew._workers:
        with open(f"/proc/{worker.pid}/smaps_rollup") as file:
            private = sum(int(line.split()[1]) for line in file if line.startswith(("Private_Dirty", "Private_Clean")))
        assert private < 100_000, f"{private} kB"
    assert len(objects) == 200_000
    assert ballast[-1] == 1
