"""After the loop: the best weights become a bundle with its scores."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import Description
from maskwright.bundles.runs import Run
from maskwright.core import files
from maskwright.core.recipe import Recipe, with_paths
from maskwright.core.recipe_text import dump
from maskwright.core.types import Network, ObjectNetwork
from maskwright.data.prepare import Prepared, digest
from maskwright.exports import onnx
from maskwright.exports.parity import AnyParity
from maskwright.imaging import images
from maskwright.prediction import with_torch
from maskwright.prediction.scoring import AnyScores
from maskwright.prediction.views import as_input
from maskwright.training import checkpoint, surroundings, tasks
from maskwright.training.assemble import Assembled

PARITY_IMAGES = 16
FIXED_SEED = 20_000  # of the pixels that every bundle answers to, see `fixed_output`


def bundle(parts: Assembled, recipe: Recipe, prepared: Prepared, run: Run) -> AnyParity:
    """Writes the bundle: weights, recipe, description, and model.onnx with its parity check.

    The weights are the best ones, or the last where nothing validates.

    Raises ModelError when the exported network disagrees with the trained one; the bundle then has no model.onnx.
    """
    checkpoint.load_weights(parts.plan.best, parts.segmenter)
    segmenter = parts.segmenter.eval()
    state = {name: value.detach().float().cpu().contiguous() for name, value in segmenter.state_dict().items()}
    with files.written_whole(run.bundle / bundles.WEIGHTS) as temporary:
        temporary.write_bytes(save(state))
    files.write_text(run.bundle / bundles.RECIPE, dump(without_paths(recipe)))
    ledger = prepared.ledger
    description = replace(
        parts.description,
        ledger={"digest": digest(ledger), "totals": ledger.totals(), "refused": ledger.num_refused},
        versions=surroundings.versions(),
        fixed_output=fixed_output(with_torch.running(segmenter), parts.description),
    )
    bundles.save_description(run.bundle, description)
    pixels = parity_inputs(prepared, description)
    return onnx.checked(segmenter, description, run.bundle / bundles.ONNX, pixels)


def scores(run: Run, val: AnyScores | None, test: AnyScores | None) -> None:
    """Writes scores.json and per_image.csv of the run, and the headlines into the bundle's description.

    What was not measured is left out; per_image.csv holds the validation images, or the test images when nothing validated.
    """
    found = {part: scores for part, scores in (("val", val), ("test", test)) if scores is not None}
    files.write_json(run.path / "scores.json", {"schema": 1, **{part: s.to_json() for part, s in found.items()}})
    for scores in list(found.values())[:1]:
        scores.csv(run.path / "per_image.csv")
    description = bundles.load(run.bundle).description
    headlines = {part: s.summary()["headlines"] for part, s in found.items()}
    bundles.save_description(run.bundle, replace(description, scores=headlines))


def augmented(parts: Assembled, count: int) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Training samples as the network saw them: image uint8 (h, w, 3), label map uint8 (h, w), id.

    Masks and objects that may overlap are laid over each other.
    """
    samples: list[tuple[np.ndarray, np.ndarray, str]] = []
    flat = tasks.of(parts.recipe).flat
    for batch in islice(parts.loader.epoch(0), -(-count // parts.loader.batch)):
        arrays = [batch.targets] if batch.tables is None else [batch.targets, batch.tables]
        for row, (image, id) in enumerate(zip(batch.images.permute(0, 2, 3, 1).numpy(), batch.ids, strict=True)):
            samples.append((image.copy(), flat(tuple(array[row].numpy().copy() for array in arrays)), id))
    return samples[:count]


def parity_inputs(prepared: Prepared, description: Description) -> list[np.ndarray]:
    """Real validation images (training images when nothing validates) as network inputs, float32 (1, 3, h, w)."""
    data = prepared.val if len(prepared.val) else prepared.train
    step = max(1, len(data) // PARITY_IMAGES)
    how = "pad" if description.fit == "crop" else description.fit
    chosen = [data[i] for i in range(0, len(data), step)][:PARITY_IMAGES]
    return [as_input(images.read_fitted(r.image, description.size, how, upright=r.upright)[0]) for r in chosen]


def fixed_output(network: Network | ObjectNetwork, description: Description) -> dict[str, Any]:
    """What the network answers to fixed pixels, in a few numbers, the same in every runtime."""
    pixels = np.random.default_rng(FIXED_SEED).integers(0, 256, (1, 3, *description.size)).astype(np.float32)
    return {"seed": FIXED_SEED, **tasks.TASKS[description.task].fixed_output(network, pixels)}


def without_paths(recipe: Recipe) -> Recipe:
    """The recipe with data paths cut down to folder names: a bundle says nothing of the machine it was made on."""

    cut: dict[str, Any] = {}
    if Path(recipe.model.weights).is_absolute():
        cut["model"] = recipe.model.model_copy(update={"weights": Path(recipe.model.weights).name})
    if recipe.split.file:
        cut["split"] = recipe.split.model_copy(update={"file": Path(recipe.split.file).name})
    return with_paths(recipe.model_copy(update=cut), lambda path: Path(path).name or "data")
