"""Weights of networks that find objects: rows of classes by name, torchvision's files, files that are refused, other tasks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from maskwright.core.errors import ModelError
from maskwright.models import INSTANCE_MODELS, MODELS, weight_files
from maskwright.models.instance_segmenter import wrap
from maskwright.models.segmenter import wrap as wrap_pixels
from maskwright.models.weights import load

CLASSES = ("cat", "dog", "cow")


def detector(num_classes: int = 3, **options: Any) -> Any:
    return INSTANCE_MODELS["mask_rcnn"](num_classes, **{"encoder": "resnet18", "channels": 16, **options})


def bundle_of(folder: Path, network: nn.Module, classes: tuple[str, ...], model: dict, task: str = "instance") -> str:
    folder.mkdir(parents=True)
    state = (wrap if task == "instance" else wrap_pixels)(network, "imagenet").state_dict()
    save_file({key: value.float().contiguous() for key, value in state.items()}, folder / "weights.safetensors")
    description = {
        "format": 1, "classes": classes, "colours": [(0, 0, 0)] * len(classes), "size": (64, 64), "fit": "squash",
        "model": model, "normalization": "imagenet", "task": task,
    }  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(description))
    return str(folder)


def trained(network: nn.Module) -> nn.Module:
    """Numbers that no fresh network has."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                nn.init.uniform_(value, *((0.5, 1.5) if name.endswith("running_var") else (-0.1, 0.1)))
    return network


# --------------------------------------------------------------------------------------------------------- other classes


def test_rows_of_classes_move_by_name(tmp_path: Path) -> None:
    """One row for the background before those of the classes, four of each in the layer of the boxes."""
    before, after = CLASSES, ("cow", "horse", "cat", "goat")
    old, new = trained(detector(3)), detector(4)
    fresh = {key: value.clone() for key, value in new.state_dict().items()}
    loaded = load(new, bundle_of(tmp_path / "bundle", old, before, {"name": "mask_rcnn"}), classes=after)
    assert "the head was replaced for other classes (kept 2; new: horse, goat; dropped: dog)" in loaded.summary()
    assert loaded.missing == ()
    heads = 0
    for key, value in new.state_dict().items():
        was = old.state_dict()[key]
        if not key.startswith(new.head_names):
            assert torch.equal(value, was), key
            continue
        heads += 1
        each = 4 if "bbox_pred" in key else 1
        old_rows, new_rows, fresh_rows = (part.unflatten(0, (-1, each)) for part in (was, value, fresh[key]))
        assert torch.equal(new_rows[0], old_rows[0])  # what is no object
        for row, name in enumerate(after, start=1):
            source = old_rows[before.index(name) + 1] if name in before else fresh_rows[row]
            assert torch.equal(new_rows[row], source), (key, name)
    assert heads == 6


def test_a_bundle_of_the_same_classes_is_loaded_whole(tmp_path: Path) -> None:
    old, new = trained(detector()), detector()
    loaded = load(new, bundle_of(tmp_path / "bundle", old, CLASSES, {"name": "mask_rcnn"}), classes=CLASSES)
    assert loaded.missing == ()
    assert {key for key, _ in loaded.skipped} == {"mean", "std"}
    assert "left out" not in loaded.summary()
    assert all(torch.equal(value, new.state_dict()[key]) for key, value in old.state_dict().items())


# ----------------------------------------------------------------------------------------------------------- other tasks


@pytest.mark.parametrize("direction", ["to pixels", "to objects"])
def test_networks_of_another_task_give_their_encoder(tmp_path: Path, direction: str) -> None:
    pixels, objects = MODELS["unet"](3, encoder="resnet18"), detector()
    if direction == "to pixels":
        old, new, model, task = objects, pixels, "mask_rcnn", "instance"
    else:
        old, new, model, task = pixels, objects, "unet", "semantic"
    path = bundle_of(tmp_path / "bundle", trained(old), CLASSES, {"name": model}, task)
    loaded = load(new, path, classes=CLASSES)
    assert set(loaded.loaded) == {f"encoder.{key}" for key in new.encoder.state_dict()}
    assert f"only its encoder was taken, it is a `{model}` of `task: {task}`" in loaded.summary()
    assert loaded.missing == ()
    assert all(torch.equal(value, old.encoder.state_dict()[key]) for key, value in new.encoder.state_dict().items())
    assert {key for key, _ in loaded.skipped} == {"mean", "std"} | {
        f"network.{key}" for key in old.state_dict() if not key.startswith("encoder.")
    }


# ----------------------------------------------------------------------------------------------------------- torchvision


def test_names_of_whole_networks_elsewhere_are_ours() -> None:
    names = {
        "backbone.body.layer1.0.conv1.weight": "encoder.layer1.0.conv1.weight",
        "backbone.fpn.inner_blocks.0.0.bias": "pyramid.inner_blocks.0.0.bias",
        "backbone.fpn.layer_blocks.3.weight": "pyramid.layer_blocks.3.0.weight",
        "module.backbone.fpn.layer_blocks.1.1.running_mean": "module.pyramid.layer_blocks.1.1.running_mean",
        "rpn.head.conv.weight": "rpn.head.conv.0.0.weight",
        "rpn.head.conv.1.0.weight": "rpn.head.conv.1.0.weight",
        "roi_heads.mask_head.mask_fcn1.bias": "roi_heads.mask_head.0.0.bias",
        "roi_heads.mask_predictor.mask_fcn_logits.bias": "roi_heads.mask_predictor.mask_fcn_logits.bias",
        "model.pixel_level_module.encoder.swin.layernorm.weight": "encoder.swin.layernorm.weight",
        "class_predictor.weight": "head.weight",
        "backbone.conv1.weight": "backbone.conv1.weight",
    }
    assert {name: weight_files.renamed(name) for name in names} == names


def of_torchvision(version: str, num_classes: int) -> Any:
    make = getattr(torchvision.models.detection, f"maskrcnn_resnet50_fpn{'_v2' if version == 'v2' else ''}")
    return trained(make(weights=None, weights_backbone=None, num_classes=num_classes)).eval()


def small_of_torchvision(num_classes: int = 4) -> Any:
    body = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    return trained(torchvision.models.detection.MaskRCNN(body, num_classes, box_score_thresh=0.05)).eval()


def assert_same_answers(theirs: Any, ours: Any) -> None:
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 4 - 2
    with torch.inference_mode():
        features = theirs.backbone(images)
        listed = ImageList(images, [(64, 96)] * 2)
        expected, _ = theirs.roi_heads(features, theirs.rpn(listed, features)[0], listed.image_sizes)
        actual = ours.eval()(images)
    assert sum(len(one["labels"]) for one in expected) > 0
    for one, other in zip(expected, actual, strict=True):
        for name in ("boxes", "labels", "scores", "masks"):
            torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrapping", ["plain", "old names", "parallel"])
def test_a_file_of_torchvision_gives_the_same_answers(tmp_path: Path, wrapping: str) -> None:
    torch.manual_seed(0)
    theirs = small_of_torchvision()
    state: dict[str, Any] = dict(theirs.state_dict())
    if wrapping == "old names":
        state = {_old(name): value for name, value in state.items()}
        assert {"rpn.head.conv.weight", "roi_heads.mask_head.mask_fcn4.bias"} <= state.keys()
        assert "backbone.fpn.inner_blocks.2.weight" in state
    if wrapping == "parallel":
        state = {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
    torch.save(state, tmp_path / "w.pth")
    network = detector(channels=256)
    loaded = load(network, str(tmp_path / "w.pth"), classes=CLASSES)
    assert loaded.missing == ()
    assert loaded.skipped == ()
    assert loaded.normalization == "imagenet"
    assert "the head was taken as it is" in loaded.summary()
    assert_same_answers(theirs, network)


def _old(name: str) -> str:
    """As torchvision called it before its layers were put into blocks."""
    for number in range(4):
        name = name.replace(f"mask_head.{number}.0.", f"mask_head.mask_fcn{number + 1}.")
        name = name.replace(f"_blocks.{number}.0.", f"_blocks.{number}.")
    return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")


def test_a_head_of_other_classes_is_left_out_and_said(tmp_path: Path) -> None:
    torch.save(small_of_torchvision(91).state_dict(), tmp_path / "w.pth")
    network = detector(channels=256)
    fresh = {key: value.clone() for key, value in network.state_dict().items() if key.startswith(network.head_names)}
    loaded = load(network, str(tmp_path / "w.pth"), classes=CLASSES)
    assert "its head has other shapes and was left out" in loaded.summary()
    assert {key for key, _ in loaded.skipped} == set(fresh)
    lines = loaded.lines()
    shape = "has the shape (91, 1024), the network's has (4, 1024)"
    assert f"left out roi_heads.box_predictor.cls_score.weight: {shape}" in lines
    assert loaded.missing == ()
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in fresh.items())


def test_a_detector_gives_a_pixel_network_its_encoder(tmp_path: Path) -> None:
    theirs = small_of_torchvision()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    network = MODELS["unet"](2, encoder="resnet18")
    loaded = load(network, str(tmp_path / "w.pth"), classes=("background", "cat"))
    assert "only its encoder was taken, it is a detector of torchvision" in loaded.summary()
    state: dict[str, Tensor] = theirs.backbone.body.state_dict()
    assert all(torch.equal(network.encoder.state_dict()[key], value) for key, value in state.items())


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_torchvisions_own_networks_give_the_same_answers(tmp_path: Path, version: str) -> None:
    torch.manual_seed(0)
    theirs = of_torchvision(version, 4)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    network = INSTANCE_MODELS["mask_rcnn"](3, encoder="resnet50", heads=version)
    loaded = load(network, str(tmp_path / "w.pth"), classes=CLASSES)
    assert loaded.missing == loaded.skipped == ()
    assert_same_answers(theirs, network)


def test_the_anchors_are_torchvisions() -> None:
    theirs, ours = small_of_torchvision().rpn.anchor_generator, detector().rpn.anchor_generator
    assert isinstance(theirs, AnchorGenerator)
    for one, other in zip(theirs.cell_anchors, ours.cell_anchors, strict=True):
        assert torch.equal(one, other)


# --------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "mask_rcnn_coco.h5",
            b"\x89HDF\r\n\x1a\n" + bytes(64),
            "is a Keras file .HDF5., as matterport's Mask R-CNN has them",
        ),
        ("mask_rcnn_coco.pth", b"\x89HDF\r\n\x1a\n" + bytes(64), "is a Keras file"),
        ("mask_rcnn_coco.H5", b"torn", "is a Keras file"),
        ("model_final_f10217.pkl", b"\x80\x04}", "is a pickle, as detectron2 has them"),
    ],
)
def test_files_of_other_houses_are_refused_with_what_to_use(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    network = detector()
    with pytest.raises(ModelError, match=words) as error:
        load(network, str(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name))
    assert "torchvision's COCO weights" in str(error.value)
    assert "`imagenet`, or a bundle" in str(error.value)
