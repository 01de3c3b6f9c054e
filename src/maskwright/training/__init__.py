"""The shelves of training: losses, optimisers, schedules, augmentation, mixes; names are listed without torch.

To add a member: write its function in the file its line names (how it is called stands at the head of that file), add the line.
"""

from maskwright.core.registry import Registry

LOSSES: Registry = Registry(
    "loss",
    {name: f"maskwright.training.pixel_losses:{name}" for name in ("cross_entropy", "bce", "focal", "ohem", "boundary")}
    | {name: f"maskwright.training.region_losses:{name}" for name in ("dice", "jaccard", "tversky", "lovasz")},
)
OPTIMIZERS: Registry = Registry(
    "optimizer",
    {
        name: f"maskwright.training.optim:{name}"
        for name in ("adamw", "adam", "sgd", "nag", "rmsprop", "adagrad", "adadelta")
    },
)
SCHEDULES: Registry = Registry(
    "schedule",
    {
        name: f"maskwright.training.schedules:{name}"
        for name in ("cosine", "poly", "constant", "exponential", "step", "one_cycle", "plateau")
    },
)
AUGMENTS: Registry = Registry(
    "augmentation", {name: f"maskwright.training.augment:{name}" for name in ("none", "soft", "medium", "hard")}
)
PLACES = ("flip", "flip_vertical", "quarter_turn", "rotate", "zoom", "stretch", "shift", "shear", "perspective")
COLOURS = ("brightness", "contrast", "saturation", "hue", "gamma", "grey")
EFFECTS = ("blur", "motion_blur", "noise", "jpeg", "erase")
OPERATIONS: Registry = Registry(
    "operation",
    {name: f"maskwright.training.place_operations:{name}" for name in PLACES}
    | {name: f"maskwright.training.colour_operations:{name}" for name in COLOURS + EFFECTS},
)
MIXES: Registry = Registry(
    "mix", {name: f"maskwright.training.mix:{name}" for name in ("mixup", "cutmix", "copy_paste")}
)
