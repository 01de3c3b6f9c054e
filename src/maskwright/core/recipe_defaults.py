"""What of a recipe depends on other keys: defaults of overlapping classes and of the instance task, and the keys that mean
nothing for objects."""

from __future__ import annotations

from typing import Any

OVERLAPPING: dict[str, Any] = {"loss": {"bce": 1.0, "dice": 1.0}}
OBJECTS: dict[str, Any] = {
    "model": {"name": "mask_rcnn"},
    "size": [384, 384],
    "train": {"batch": 4, "optimizer": {"name": "adamw", "lr": 5e-4}, "encoder_lr": 1.0, "schedule": "one_cycle"},
}
OF_MODELS: dict[str, dict[str, Any]] = {  # networks of that task that learn otherwise, as their papers have it
    "mask2former": {"optimizer": {"name": "adamw", "lr": 1e-4}, "encoder_lr": 0.1},
}
FOR_PIXELS = {  # what says so of a key that networks which find objects do not have
    "base_size": "is for `fit: crop`, and objects are found in whole images; leave it out",
    "multilabel": "is for models that label pixels; leave it out: objects may overlap anyway",
    "loss": "networks that find objects have losses of their own; weigh them in `model`, where "
    "`maskwright explain model {model}` lists them",
}
COMPLETED = ("model", "train")  # mappings that get the keys they lack; others are left out or given as a whole


def with_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a recipe with what its `task` and `multilabel` have for keys that it leaves out."""
    defaults: dict[str, Any] = {}
    if tree.get("multilabel") is True:
        defaults |= OVERLAPPING
    if tree.get("task") == "instance":
        model = tree.get("model")
        name = model.get("name") if isinstance(model, dict) else model
        defaults |= {**OBJECTS, "train": {**OBJECTS["train"], **OF_MODELS.get(str(name), {})}}
    completed = {
        key: {**value, **tree[key]} if key in COMPLETED and isinstance(tree.get(key), dict) else tree.get(key, value)
        for key, value in defaults.items()
    }
    return {**tree, **completed}
