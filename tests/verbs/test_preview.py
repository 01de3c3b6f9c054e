"""`maskwright preview`: what it draws is what the training will see, and it needs no network."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from maskwright.core import events
from maskwright.core.errors import DataError, RecipeError
from maskwright.data import synthetic
from maskwright.verbs import preview as previews
from maskwright.verbs.preview import preview


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return str(synthetic.make(tmp_path_factory.mktemp("shapes") / "data", num=8, size=(64, 80)))


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
def test_a_grid_of_rows_and_columns(shapes, tmp_path, kind):
    out = tmp_path / f"new/grid.{kind}"
    found = preview(shapes, {"size": [48, 96]}, out=str(out), count=2, samples=3)
    assert found.path == str(out)
    assert len(found.ids) == 2
    assert found.columns == ["labels", "epoch 1", "epoch 2", "epoch 3"]
    with Image.open(out) as page:
        assert page.format == {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}[kind]
        assert page.width == 4 * (previews.TILE + 8) + 8
        assert page.height == 2 * (previews.TILE // 2 + 28) + 8
    assert found.next[0] == f"maskwright train {shapes} 'size=[48, 96]'"


def test_the_same_again_and_another_strength_differs(shapes, tmp_path):
    pages = []
    for number, augment in enumerate(["hard", "hard", "soft"]):
        out = tmp_path / f"{number}.png"
        preview(shapes, f"augment={augment}", "size=64", out=str(out), count=1, samples=2)
        pages.append(np.asarray(Image.open(out)))
    assert (pages[0] == pages[1]).all()
    assert (pages[0] != pages[2]).any()


def test_strengths_stand_beside_each_other(shapes, tmp_path):
    found = preview(shapes, "size=64", out=str(tmp_path / "s.png"), count=1, strengths=True)
    assert found.columns == ["labels", "none", "soft", "medium", "hard"]
    assert "preview" in found.next[0]


@pytest.mark.parametrize(
    "changes",
    [
        ["augment=[flip, {name: rotate, degrees: 5}, perspective, erase]", "mix=[mixup, cutmix, copy_paste]"],
        ["fit=crop", "base_size=100", "augment=[{name: zoom, scale: [0.5, 2]}]"],
        ["multilabel=true", "mix=[mixup, cutmix, copy_paste]", "augment=hard"],
        ["fit=pad", "augment=none", "mix=cutmix"],
    ],
)
def test_whatever_a_recipe_may_say_is_drawn(shapes, tmp_path, changes):
    found = preview(shapes, "size=64", *changes, out=str(tmp_path / "p.png"), count=2, samples=2)
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert len(found.to_json()["ids"]) == 2


def test_a_recipe_file(shapes, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {shapes}\nsize: 64\naugment:\n  - flip\n  - {{name: rotate, degree: 3}}\n")
    with pytest.raises(RecipeError, match="unknown option"):
        preview(str(recipe), out=str(tmp_path / "p.png"))
    assert not (tmp_path / "p.png").exists()
    found = preview(str(recipe), "augment=flip", out=str(tmp_path / "p.png"), count=1, samples=1)
    assert found.next[0] == f"maskwright train {recipe} augment=flip"


@pytest.mark.parametrize("given", [["limit=3"], []])
def test_a_limit_is_kept_and_told_truly(shapes, tmp_path, given):
    told = []
    with events.listening(lambda event: told.append(event.fields)):
        found = preview(
            shapes, "size=64", *given, out=str(tmp_path / "p.png"), count=8, samples=1, limit=None if given else 3
        )
    (cache,) = (fields for fields in told if "cache" in fields)
    assert cache["text"].startswith("cache: 3 images at 64 x 64")
    assert len(found.ids) == 3
    assert found.next[0] == f"maskwright train {shapes} size=64 limit=3"


def test_images_with_objects_come_first(shapes, tmp_path):
    ids = preview(shapes, "size=64", out=str(tmp_path / "p.png"), count=8, samples=1).ids
    assert len(set(ids)) == 8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"out": "p.gif"}, RecipeError, "names no picture"),
        ({"count": 0}, RecipeError, "--count"),
        ({"samples": 0}, RecipeError, "--samples"),
        ({"source": "/nowhere/at/all"}, DataError, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused(shapes, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        preview(**{"source": shapes, "out": str(tmp_path / "p.png")} | options)


@pytest.mark.slow
def test_no_network_is_imported(shapes, tmp_path):
    code = f"""
import sys
from maskwright.verbs.preview import preview
preview({shapes!r}, "size=64", out={str(tmp_path / "p.png")!r}, count=1, samples=1)
print(sorted(name for name in sys.modules if name in ("timm", "torchvision", "segmentation_models_pytorch")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
