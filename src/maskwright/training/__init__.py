"""The shelves of training: losses, optimisers, schedules, strengths of augmentation; names are listed without torch.

To add a member: write its function in the file its line names (how it is called stands at the head of that file), add the line.
"""

from maskwright.core.registry import Registry

LOSSES: Registry = Registry(
    "loss", {name: f"maskwright.training.losses:{name}" for name in ("cross_entropy", "bce", "dice")}
)
OPTIMIZERS: Registry = Registry("optimizer", {name: f"maskwright.training.optim:{name}" for name in ("adamw", "sgd")})
SCHEDULES: Registry = Registry(
    "schedule", {name: f"maskwright.training.optim:{name}" for name in ("cosine", "poly", "constant")}
)
AUGMENTS: Registry = Registry(
    "augmentation", {name: f"maskwright.training.augment:{name}" for name in ("none", "soft", "medium", "hard")}
)
