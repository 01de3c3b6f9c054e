"""Weights from every place they can come from: what is loaded, what is said of the rest, and what is refused."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError, SetupError
from maskwright.models import MODELS, encoders, pixel_scale, weight_files, weights
from maskwright.models.segmenter import NORMALIZATIONS, wrap
from maskwright.models.weights import load


@pytest.fixture
def warned() -> Iterator[list[str]]:
    told: list[str] = []
    with events.listening(lambda event: told.append(event.fields["text"]) if event.name == "warn" else None):
        yield told


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(encoders, "reachable", lambda seconds=3.0: False)
    monkeypatch.setattr(encoders.hub, "HF_HUB_CACHE", str(tmp_path / "empty-cache"))
    monkeypatch.delenv("MASKWRIGHT_WEIGHTS", raising=False)


def trained(module: nn.Module, scale: str = "imagenet") -> nn.Module:
    """Statistics as if the module had seen natural photos: those of its first layer follow from its weights."""
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    convolution, norm = encoders.first_convolution(module), encoders.first_batch_norm(module)
    if norm is not None:
        norm.running_var.copy_(pixel_scale.natural_variance(convolution.weight, NORMALIZATIONS[scale][1]))
    return module


def saved(path: Path, state: dict) -> str:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return str(path)


def bundle_of(folder: Path, network: nn.Module, classes: tuple[str, ...], model: dict) -> str:
    folder.mkdir(parents=True)
    saved(folder / "weights.safetensors", wrap(network, getattr(network, "normalization", "imagenet")).state_dict())
    description = {
        "format": 1, "classes": classes, "colours": [(0, 0, 0)] * len(classes), "size": (32, 32), "fit": "squash",
        "model": model, "normalization": getattr(network, "normalization", "imagenet"),
    }  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(description))
    return str(folder)


def encoder_state(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.encoder.state_dict().items()}


# ---------------------------------------------------------------------------------------------------------- local files

WRAPPINGS = {
    "plain": lambda state: state,
    "ours": lambda state: {f"network.encoder.{key}": value for key, value in state.items()},
    "parallel": lambda state: {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}},
    "backbone": lambda state: {"model": {f"backbone.{k}": v for k, v in state.items()}, "optimizer": {"lr": [0.1]}},
    "compiled": lambda state: {"model": {f"_orig_mod.module.encoder.{key}": value for key, value in state.items()}},
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("model", ["unet", "lraspp"])
def test_files_are_found_under_any_wrapping(tmp_path: Path, model: str, wrapping: str, suffix: str) -> None:
    state = trained(torchvision.models.resnet18()).state_dict()
    wrapped = WRAPPINGS[wrapping](state)
    if suffix == ".safetensors" and not all(isinstance(value, Tensor) for value in wrapped.values()):
        wrapped = next(value for value in wrapped.values() if isinstance(value, dict))
    network = MODELS[model](2, encoder="resnet18")
    loaded = load(network, saved(tmp_path / f"w{suffix}", wrapped))
    assert {key for key, _ in loaded.skipped} == {key for key in _flat(wrapped) if ".fc." in f".{key}"}
    assert loaded.missing == ()
    assert set(loaded.loaded) == {f"encoder.{key}" for key in network.encoder.state_dict()}
    assert all(torch.equal(value, state[key]) for key, value in network.encoder.state_dict().items())


def _flat(state: dict) -> dict[str, Tensor]:
    return max((value for value in [state, *state.values()] if isinstance(value, dict)), key=len)


LIBRARIES = {
    "torchvision": ("mobilenet_v2", lambda: torchvision.models.mobilenet_v2()),
    "timm for smp": ("resnet18", lambda: timm.create_model("resnet18")),
    "torchvision for timm": ("tu-resnet18", lambda: torchvision.models.resnet18()),
    "timm, flattened": ("tu-convnext_atto", lambda: timm.create_model("convnext_atto")),
    "timm, named children": ("tu-efficientvit_b0", lambda: timm.create_model("efficientvit_b0")),
    "timm, blocks": ("tu-mobilenetv3_large_100", lambda: timm.create_model("mobilenetv3_large_100")),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_names_of_other_libraries_match_where_the_layers_do(tmp_path: Path, library: str) -> None:
    encoder, make = LIBRARIES[library]
    network = MODELS["unet"](2, encoder=encoder)
    loaded = load(network, saved(tmp_path / "w.pth", make().state_dict()))
    assert loaded.missing == ()
    assert set(loaded.loaded) == {f"encoder.{key}" for key in network.encoder.state_dict()}


def test_every_layer_is_accounted_for(tmp_path: Path) -> None:
    state = trained(torchvision.models.resnet18()).state_dict()
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].to(torch.int8)
    del state["bn1.weight"]
    state["mystery"] = torch.zeros(3)
    loaded = load(MODELS["unet"](2, encoder="resnet18"), saved(tmp_path / "w.pth", state))
    skipped = dict(loaded.skipped)
    assert skipped["conv1.weight"] == "has the shape (64, 1, 7, 7), the network's has (64, 3, 7, 7)"
    assert skipped["layer1.0.conv1.weight"] == "holds int8 numbers"
    assert skipped["mystery"] == "the network has no such layer"
    assert set(loaded.missing) == {"encoder.bn1.weight", "encoder.conv1.weight", "encoder.layer1.0.conv1.weight"}
    assert len(loaded.loaded) + len(loaded.skipped) == len(state)
    assert len(loaded.lines()) == len(loaded.loaded) + len(loaded.skipped) + len(loaded.missing)
    assert "; 3 tensors are not in there and stay random; 5 tensors in there not used" in loaded.summary()


def test_half_precision_files_are_widened(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in torchvision.models.resnet18().state_dict().items()}
    network = MODELS["unet"](2, encoder="resnet18")
    load(network, saved(tmp_path / "w.pth", state))
    assert network.encoder.conv1.weight.dtype == torch.float32
    assert torch.equal(network.encoder.conv1.weight, state["conv1.weight"].float())


def test_a_whole_network_brings_its_decoder_and_head(tmp_path: Path) -> None:
    old, new = (MODELS["unet"](3, encoder="resnet18") for _ in range(2))
    loaded = load(
        new, saved(tmp_path / "w.pth", {"state_dict": {f"model.{k}": v for k, v in old.state_dict().items()}})
    )
    assert all(torch.equal(value, new.state_dict()[key]) for key, value in old.state_dict().items())
    assert "the head was taken as it is" in loaded.summary()


def test_wider_layers_are_cut_to_their_first_channels_for_lens(tmp_path: Path) -> None:
    full = trained(torchvision.models.mobilenet_v2(), "imagenet").state_dict()
    network = MODELS["lens"](2)
    loaded = load(network, saved(tmp_path / "w.pth", full))
    assert loaded.missing == ()
    own = network.encoder.state_dict()
    assert torch.equal(own["features.16.conv.2.weight"], full["features.16.conv.2.weight"][:80, :480])
    assert torch.equal(own["features.3.conv.1.0.weight"], full["features.3.conv.1.0.weight"][:96])
    assert loaded.normalization == "unit"
    assert "folded into the first layer, which now takes `unit`" in loaded.summary()
    scaled = full["features.0.0.weight"][:16] * 255 / torch.tensor(NORMALIZATIONS["imagenet"][1]).view(1, 3, 1, 1)
    torch.testing.assert_close(own["features.0.0.weight"], scaled)


BAD_FILES = {
    "empty": (b"", "it is empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "html": (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
    "text": (b"hello, I am no weights", "cannot be read as weights"),
    "pickle": (pickle.dumps({"w": Path("/")}), "damaged, or holds more than tensors"),
    "numbers": (pickle.dumps([1, 2, 3], protocol=2), "cannot be read as weights|holds no tensors"),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_what_is_no_weight_file_is_refused(tmp_path: Path, bad: str) -> None:
    content, words = BAD_FILES[bad]
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        load(MODELS["unet"](2, encoder="resnet18"), str(path))
    assert str(path) in str(caught.value)


class Evil:
    """What a hostile file may hold: unpickling it would run code."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    with pytest.raises(ModelError, match="more than tensors"):
        load(MODELS["lens"](2), saved(tmp_path / "w.pth", {"weight": torch.zeros(2), "evil": Evil(target)}))
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torn_and_scribbled_files_raise_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    saved(path, {"a.weight": torch.rand(4, 3), "b": torch.rand(5)})
    whole = path.read_bytes()
    draw = torch.Generator().manual_seed(0)
    for length in torch.randint(0, len(whole), (60,), generator=draw).tolist():
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            weight_files.read(path)
    for place, value in torch.randint(0, len(whole), (200, 2), generator=draw).tolist():
        path.write_bytes(whole[:place] + bytes([value % 256]) + whole[place + 1 :])
        try:
            weight_files.read(path)
        except ModelError:
            continue


def test_weights_of_another_encoder_change_nothing(tmp_path: Path) -> None:
    network = MODELS["unet"](2, encoder="resnet18")
    before = encoder_state(network)
    path = saved(tmp_path / "w.pth", torchvision.models.mobilenet_v2().state_dict())
    with pytest.raises(
        ModelError, match=r"holds only 0 of the 60 parameters of encoder `resnet18`.*features.0.0.weight"
    ):
        load(network, path)
    assert all(torch.equal(value, before[key]) for key, value in network.encoder.state_dict().items())


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    state["conv1.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"not finite in 1 tensor \(`encoder.conv1.weight`\)"):
        load(MODELS["unet"](2, encoder="resnet18"), saved(tmp_path / "w.pth", state))


def test_folded_norms_are_warned_of(tmp_path: Path, warned: list[str]) -> None:
    state = torchvision.models.resnet18().state_dict()
    load(MODELS["unet"](2, encoder="resnet18"), saved(tmp_path / "fresh.pth", state))
    assert len(warned) == 1
    assert "BatchNorm layers never saw an image" in warned[0]
    load(
        MODELS["unet"](2, encoder="resnet18"),
        saved(tmp_path / "w.pth", trained(torchvision.models.resnet18()).state_dict()),
    )
    assert len(warned) == 1


# --------------------------------------------------------------------------------------------------------- pixel scale


@pytest.mark.parametrize("scale", pixel_scale.CANDIDATES)
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "tu-mobilenetv3_large_100"])
def test_the_first_layer_tells_its_pixel_scale(tmp_path: Path, encoder: str, scale: str) -> None:
    source = trained(MODELS["unet"](2, encoder=encoder).encoder, scale)
    path = saved(tmp_path / "w.pth", source.state_dict())
    loaded = load(MODELS["unet"](2, encoder=encoder), path)
    assert loaded.normalization == scale
    assert f"pixels are scaled as `{scale}` (variance in the first layer 1.00x of the expected" in loaded.summary()
    assert load(MODELS["unet"](2, encoder=encoder), path, normalization="imagenet").normalization == "imagenet"


@pytest.mark.parametrize("scale", pixel_scale.CANDIDATES)
def test_the_first_layer_tells_its_pixel_scale_after_seeing_pixels(scale: str) -> None:
    """Pictures whose pixels resemble their neighbours, through a real BatchNorm, instead of the formula again."""
    torch.manual_seed(0)
    noise = torch.randn(64, 3, 8, 8) + 2.5 * torch.randn(64, 1, 8, 8)
    pictures = torch.nn.functional.interpolate(noise, size=96, mode="bicubic")
    pictures = ((pictures / pictures.std()) * 0.25 + 0.45).clamp(0, 1) * 255
    encoder = MODELS["unet"](2, encoder="resnet18").encoder
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALIZATIONS[scale])
    encoder.bn1.momentum = 1.0
    encoder.train()((pictures - mean) / std)
    found = pixel_scale.recognize(encoder)
    assert found is not None
    assert found[0] == scale


def test_layers_that_do_not_tell(tmp_path: Path) -> None:
    assert pixel_scale.recognize(MODELS["unet"](2, encoder="tu-convnext_atto").encoder) is None
    fresh = torchvision.models.resnet18()
    assert pixel_scale.recognize(fresh) is None
    loaded = load(MODELS["unet"](2, encoder="resnet18"), saved(tmp_path / "w.pth", fresh.state_dict()))
    assert loaded.normalization == "imagenet"
    assert "a guess" in loaded.summary()


def test_unknown_normalizations_are_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean `imagenet`"):
        load(MODELS["lens"](2), "none", normalization="imagenett")


# ------------------------------------------------------------------------------------------------------------- bundles


@pytest.mark.parametrize("model", ["unet", "lens", "lraspp"])
def test_a_bundle_of_the_same_classes_is_loaded_whole(tmp_path: Path, model: str) -> None:
    classes = ("background", "cat", "dog")
    old, new = trained(MODELS[model](3)), MODELS[model](3)
    path = bundle_of(tmp_path / "run" / "bundle", old, classes, {"name": model})
    for source in (path, str(tmp_path / "run")):
        loaded = load(new, source, classes=classes)
        assert loaded.missing == ()
        assert {key for key, _ in loaded.skipped} == {"mean", "std"}
        assert all(torch.equal(value, new.state_dict()[key]) for key, value in old.state_dict().items())


@pytest.mark.parametrize("model", ["unet", "lens", "lraspp"])
def test_a_bundle_of_other_classes_gives_its_rows_by_name(tmp_path: Path, model: str) -> None:
    before, after = ("background", "cat", "dog", "cow"), ("background", "cow", "horse", "cat")
    old, new = trained(MODELS[model](4)), MODELS[model](4)
    fresh = {key: value.clone() for key, value in new.state_dict().items()}
    loaded = load(new, bundle_of(tmp_path / "bundle", old, before, {"name": model}), classes=after)
    assert "the head was replaced for other classes" in loaded.summary()
    assert "new: horse; dropped: dog" in loaded.summary()
    for key, value in new.state_dict().items():
        if not key.startswith(new.head_names):
            assert torch.equal(value, old.state_dict()[key])
            continue
        shift = 4 - len(value)  # rows without a background
        for row, name in enumerate(after[shift:]):
            source = old.state_dict()[key][before.index(name) - shift] if name in before else fresh[key][row]
            assert torch.equal(value[row], source)


def test_a_bundle_with_fewer_classes_fits(tmp_path: Path) -> None:
    old, new = trained(MODELS["unet"](5, encoder="resnet18")), MODELS["unet"](2, encoder="resnet18")
    path = bundle_of(tmp_path / "bundle", old, ("background", "a", "b", "c", "d"), {"name": "unet"})
    loaded = load(new, path, classes=("background", "c"))
    weight = "segmentation_head.0.weight"
    assert torch.equal(new.state_dict()[weight], old.state_dict()[weight][[0, 3]])
    assert loaded.missing == ()


def test_a_head_of_other_channels_stays_as_it_is(tmp_path: Path) -> None:
    old, new = trained(MODELS["unet"](3, encoder="resnet18", width=8)), MODELS["unet"](2, encoder="resnet18")
    before = new.state_dict()["segmentation_head.0.weight"].clone()
    loaded = load(new, bundle_of(tmp_path / "bundle", old, ("a", "b", "c"), {"name": "unet"}), classes=("a", "c"))
    assert torch.equal(new.state_dict()["segmentation_head.0.weight"], before)
    assert "has the shape" in dict(loaded.skipped)["network.segmentation_head.0.weight"]


def test_a_head_is_never_cut_to_its_first_channels(tmp_path: Path) -> None:
    old, new = trained(MODELS["lens"](5)), MODELS["lens"](2)
    before = new.state_dict()["head.weight"].clone()
    loaded = load(new, saved(tmp_path / "w.pth", old.state_dict()))
    assert torch.equal(new.state_dict()["head.weight"], before)
    assert "has the shape" in dict(loaded.skipped)["head.weight"]


def test_a_bundle_of_another_network_gives_its_encoder(tmp_path: Path) -> None:
    old, new = trained(MODELS["unet"](2, encoder="resnet18")), MODELS["lraspp"](2, encoder="resnet18")
    loaded = load(new, bundle_of(tmp_path / "bundle", old, ("a", "b"), {"name": "unet"}), classes=("a", "b"))
    assert set(loaded.loaded) == {f"encoder.{key}" for key in new.encoder.state_dict()}
    assert "decoder.blocks.0.conv1.0.weight" in " ".join(key for key, _ in loaded.skipped)


# ------------------------------------------------------------------------------------------------- library, folder, none


def test_offline_is_one_sentence() -> None:
    with pytest.raises(SetupError) as caught:
        load(MODELS["unet"](2, encoder="resnet18"), "imagenet")
    assert str(caught.value) == (
        "the `imagenet` weights of encoder `resnet18` cannot be downloaded (no network); give a local file with "
        "`weights: path`, put it into $MASKWRIGHT_WEIGHTS, or train from scratch with `weights: none`"
    )


@pytest.mark.parametrize("model", ["unet", "lens", "lraspp", "segformer", "fcn_resnet50", "lraspp_mobilenet_v3_large"])
def test_auto_trains_from_scratch_where_nothing_can_be_had(model: str, warned: list[str]) -> None:
    network = MODELS[model](2)
    before = encoder_state(network)
    loaded = load(network, "auto")
    assert all(torch.equal(value, before[key]) for key, value in network.encoder.state_dict().items())
    assert loaded.loaded == ()
    assert "starts from random values" in loaded.summary()
    assert len(warned) == 1
    assert warned[0].startswith("training from scratch")


@pytest.mark.parametrize("source", ["auto", "imagenet"])
def test_the_folder_goes_before_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setenv("MASKWRIGHT_WEIGHTS", str(tmp_path))
    state = trained(torchvision.models.resnet18()).state_dict()
    for name in ("resnet18d-1.pth", "resnet180.pth", "other-resnet18.pth", "resnet18.txt"):
        (tmp_path / name).write_text("not this one")
    saved(tmp_path / "resnet18-f37072fd.pth", state)
    network = MODELS["unet"](2, encoder="resnet18")
    assert load(network, source).source.endswith("resnet18-f37072fd.pth")
    assert torch.equal(network.encoder.conv1.weight, state["conv1.weight"])


def test_what_a_library_tells_of_its_download_is_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get_encoder(name: str, weights: object) -> nn.Module:
        print("Downloading")
        return nn.Linear(1, 1)

    monkeypatch.setattr(encoders, "reachable", lambda: True)
    monkeypatch.setattr(encoders.library, "get_encoder", get_encoder)
    assert set(encoders.download("resnet18")) == {"weight", "bias"}
    assert capsys.readouterr().out == ""


def test_a_longer_encoder_name_is_another_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKWRIGHT_WEIGHTS", str(tmp_path))
    (tmp_path / "vgg11_bn-6002323d.pth").touch()
    assert weights.file_in_folder("vgg11") is None
    assert (
        weights.file_in_folder("vgg11_bn")
        == weights.file_in_folder("tu-vgg11_bn")
        == tmp_path / "vgg11_bn-6002323d.pth"
    )


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASKWRIGHT_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(SetupError, match="MASKWRIGHT_WEIGHTS is not a folder"):
        load(MODELS["lens"](2), "imagenet")


def test_the_library_says_its_pixel_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    state = trained(MODELS["unet"](2, encoder="tu-tf_mobilenetv3_small_100").encoder, "imagenet").state_dict()
    monkeypatch.setattr(encoders, "download", lambda name, tag: dict(state))
    loaded = load(MODELS["unet"](2, encoder="tu-tf_mobilenetv3_small_100"), "imagenet")
    mean, std = encoders.expected_input("tu-tf_mobilenetv3_small_100")
    assert loaded.normalization == ("inception" if mean[0] == mean[1] else "imagenet")
    assert loaded.source == "the library's `imagenet` weights"
    assert std[0] > 1


def test_none_changes_nothing(warned: list[str]) -> None:
    network = MODELS["unet"](2, encoder="resnet18")
    before = encoder_state(network)
    loaded = load(network, "none", normalization="inception")
    assert (loaded.normalization, loaded.loaded) == ("inception", ())
    assert all(torch.equal(value, before[key]) for key, value in network.encoder.state_dict().items())
    assert warned == []
    assert load(MODELS["lens"](2), "none", normalization="imagenet").normalization == "unit"
    assert "has no effect" in warned[0]


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("nowhere.pth", ModelError, "nowhere.pth: not found"),
        ("imagnet", ModelError, "imagnet: not found; `weights` can be `auto`"),
    ],
)
def test_sources_that_are_none(source: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load(MODELS["unet"](2, encoder="resnet18"), source)


def test_a_kind_that_the_library_does_not_have() -> None:
    with pytest.raises(RecipeError, match="no weights called `imagenet`; it can be `ssl`, `swsl`"):
        load(MODELS["unet"](2, encoder="resnext101_32x4d"), "imagenet")


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a bundle"):
        load(MODELS["lens"](2), str(tmp_path))


@pytest.mark.parametrize("model", ["unet", "lens"])
def test_the_real_mobilenet_fits_and_wants_imagenet_pixels(real_data: Path, model: str, warned: list[str]) -> None:
    path = next((real_data / "weights").glob("mobilenet_v2*.pth"))
    network = MODELS[model](2)
    loaded = load(network, str(path))
    assert loaded.missing == ()
    assert "as `imagenet` (variance in the first layer 1.0" in loaded.summary()
    assert loaded.normalization == ("unit" if model == "lens" else "imagenet")
    assert warned == []
