"""Layers by depth: what each word of a stage trains in encoders of every kind, and that the rest stays as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maskwright.core import events
from maskwright.core.errors import RecipeError
from maskwright.core.recipe import Training
from maskwright.models import INSTANCE_MODELS, MODELS
from maskwright.models.device import choose
from maskwright.models.segmenter import Segmenter, wrap
from maskwright.training import layers, loop, optim, plan, schedules
from maskwright.training.batch import Batch
from maskwright.training.plan import Plan, stretches
from maskwright.training.watch import Validated

# encoder: the first layer of each stage from 1 to 5, by what its authors call them
FIRST: dict[str, list[str]] = {
    "resnet18": ["conv1", "layer1", "layer2", "layer3", "layer4"],
    "se_resnet50": ["layer0", "layer1", "layer2", "layer3", "layer4"],
    "mobilenet_v2": ["features.0", "features.2", "features.4", "features.7", "features.14"],
    "efficientnet-b0": ["_conv_stem.weight", "_blocks.1", "_blocks.3", "_blocks.5", "_blocks.11"],
    "densenet121": [
        "features.conv0",
        "features.denseblock1",
        "features.denseblock2",
        "features.denseblock3",
        "features.denseblock4",
    ],
    "mit_b0": ["", "patch_embed1.proj", "patch_embed2", "patch_embed3", "patch_embed4"],
    "tu-resnet18": ["model.conv1", "model.layer1", "model.layer2", "model.layer3", "model.layer4"],
    "tu-convnext_atto": ["", "model.stem_0", "model.stages_1", "model.stages_2", "model.stages_3"],
    "tu-mobilenetv3_large_100": ["model.conv_stem", *(f"model.blocks.{n}" for n in (1, 2, 3, 5))],
}


def network_of(encoder: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = MODELS["fpn"](2, encoder=encoder)
    return network


@pytest.mark.parametrize("encoder", FIRST)
def test_stages_are_the_strides_at_which_layers_work(encoder: str) -> None:
    network = network_of(encoder)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = layers.depths(network.train())
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    for stage, name in enumerate(FIRST[encoder], start=1):
        same = [layer for layer, at in found.items() if at == stage]
        assert same[:1] == [f"encoder.{name}"] * bool(name)
    names = [name for name, _ in network.named_parameters() if name.startswith("encoder.")]
    assert all(
        sum(layers.is_meant(name, layer) for layer in found) == 1 for name in names
    )  # cut into parts, none left over


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "efficientnet-b0", "tu-convnext_atto"])
@pytest.mark.parametrize("word", ["heads", "3+", "4+", "5+", "all"])
def test_words_freeze_the_encoder_up_to_a_stage(encoder: str, word: str) -> None:
    network = network_of(encoder)
    (stretch,) = stretches(Training(stages=[{"epochs": 1, "layers": word}]), 1, network)
    layers.freeze(network, stretch.freeze, stretch.place)
    least = {"heads": 9, "all": 0}.get(word) if word in ("heads", "all") else int(word[0])
    depths = layers.depths(network)
    for name, parameter in network.named_parameters():
        stage = next((at for layer, at in depths.items() if layers.is_meant(name, layer)), 10)
        assert parameter.requires_grad == (stage >= least), name


def test_resnets_are_cut_where_matterport_cuts_them() -> None:
    network = INSTANCE_MODELS["mask_rcnn"](3, encoder="resnet50", channels=8)
    trained = {}
    for word in ("heads", "5+", "4+", "3+", "all"):
        (stretch,) = stretches(Training(stages=[{"epochs": 1, "layers": word}]), 1, network)
        layers.freeze(network, stretch.freeze, stretch.place)
        trained[word] = {
            ".".join(name.split(".")[:2]) for name, parameter in network.named_parameters() if parameter.requires_grad
        }
    assert not any(name.startswith("encoder") for name in trained["heads"])
    assert trained["5+"] - trained["heads"] == {"encoder.layer4"}
    assert trained["4+"] - trained["5+"] == {"encoder.layer3"}
    assert trained["3+"] - trained["4+"] == {"encoder.layer2"}
    assert trained["all"] - trained["3+"] == {"encoder.layer1", "encoder.conv1", "encoder.bn1"}


def test_layers_and_patterns_both_hold() -> None:
    network = network_of("resnet18")
    settings = Training(freeze=["*.bias"], stages=[{"epochs": 2, "layers": "5+", "freeze": ["decoder"]}, {"epochs": 3}])
    first, second = stretches(settings, 5, network)
    assert second == plan.Stretch(2, 3, freeze=("*.bias",), place="train.stages.1.freeze", frozen="*.bias")
    assert first.frozen == "*.bias, decoder, encoder at strides below 32"
    layers.freeze(network, first.freeze, first.place)
    for name, parameter in network.named_parameters():
        held = name.startswith("decoder") or name.endswith(".bias")
        held |= name.startswith("encoder") and not name.startswith("encoder.layer4")
        assert parameter.requires_grad != held, name


@pytest.mark.parametrize(
    ("encoder", "options", "word", "words"),
    [
        (
            "tu-convnext_atto",
            {"output_stride": 16},
            "5+",
            "no layer of the encoder works at a stride of 32 or more; `heads`",
        ),
        (None, {}, "3+", "no layer of the encoder works at a stride below 8; `all` is the same"),
    ],
)
def test_words_that_mean_nothing_are_refused(encoder: str | None, options: dict, word: str, words: str) -> None:
    if encoder is None:
        network = nn.Module()
        network.encoder = nn.Conv2d(3, 4, 8, stride=8)
        network.encoder = nn.Sequential(network.encoder)
    else:
        network = MODELS["deeplabv3"](2, encoder=encoder, **options)
    with pytest.raises(RecipeError, match=rf"train\.stages\.0\.layers: {words}"):
        stretches(Training(stages=[{"epochs": 1, "layers": word}]), 1, network)


# ------------------------------------------------------------------------------------------------------------- training

DEVICE = choose("cpu", "fp32")
STAGES: list[dict[str, Any]] = [
    {"epochs": 1, "layers": "heads"},
    {"epochs": 2, "layers": "4+"},
    {"epochs": 1, "layers": "all", "lr": 0.5},
]


class Batches:
    """Two batches of two noise images an epoch, those of an epoch always the same."""

    batch, num_used = 2, 4

    def __len__(self) -> int:
        return 2

    def epoch(self, number: int, first: int = 0) -> Any:
        random = torch.Generator().manual_seed(number)
        for index in range(2):
            images = torch.randint(0, 256, (2, 3, 32, 32), generator=random).float()
            if index >= first:
                yield Batch(
                    images, (images.mean(1) > 128).to(torch.uint8), (f"{number}/{index}/0", f"{number}/{index}/1")
                )


def trained(folder: Path, look: Any, *, resume: bool = False) -> Segmenter:
    torch.manual_seed(0)
    network = MODELS["lens"](2)

    def criterion(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": nn.functional.cross_entropy(logits, targets)}

    segmenter, settings = wrap(network, network.normalization, criterion=criterion), Training(stages=STAGES)
    folder.mkdir(exist_ok=True)
    made = Plan(
        stretches(settings, 4, network), 2, schedules.schedule("constant", {}), folder, validate_every=1, resume=resume
    )
    optimizer = optim.build(network, "adamw", {"lr": 1e-3})

    def validate() -> Validated:
        look(segmenter)
        return Validated(0.0, {"val_loss": 0.0})

    loop.train(segmenter, Batches(), optimizer, DEVICE, made, settings, validate)  # type: ignore[arg-type]
    return segmenter


def test_what_a_stage_does_not_train_stays_bit_for_bit(tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []
    said: list[str] = []
    with events.listening(lambda event: said.append(event.fields["text"]) if event.name == "say" else None):
        segmenter = trained(tmp_path, lambda s: seen.append({k: v.clone() for k, v in s.network.state_dict().items()}))
    depths = layers.depths(segmenter.network)
    least = (9, 4, 4, 0)
    torch.manual_seed(0)
    before = MODELS["lens"](2).state_dict()
    for after, first in zip(seen, least, strict=True):
        for name, value in after.items():
            stage = next((at for layer, at in depths.items() if layers.is_meant(name, layer)), 10)
            if stage < first:  # statistics of BatchNorm too
                assert torch.equal(value, before[name]), name
            elif value.ndim > 1:
                assert not torch.equal(value, before[name]), name
        before = after
    told = [line.split("trained, ")[-1] for line in said if line.startswith("stage")]
    assert told[:2] == ["frozen: encoder", "frozen: encoder at strides below 16"]
    assert told[2].endswith("trained")


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_training_with_such_stages_goes_on_where_it_stopped(tmp_path: Path, stop: int) -> None:
    whole = trained(tmp_path / "whole", lambda segmenter: None)

    class Stop(Exception):
        pass

    count = 0

    def stopping(segmenter: Segmenter) -> None:
        nonlocal count
        count += 1
        if count > stop:
            raise Stop

    with pytest.raises(Stop):
        trained(tmp_path / "cut", stopping)
    resumed = trained(tmp_path / "cut", lambda segmenter: None, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
