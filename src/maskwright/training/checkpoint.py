"""Checkpoints: everything a training needs to go on as if it had not stopped. Private to a run; bundles are for others.

Files appear whole or not at all, so that a kill at any moment leaves the one before.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from maskwright.core import files
from maskwright.core.errors import ModelError
from maskwright.models import weight_files


@dataclass
class Position:
    """Where a training stands. epoch and batch are counted from 0 and name what comes next; step counts the optimiser's.

    scores: (epochs done, score) of every validation. rate: factor of all learning rates since the training went back to
    an earlier state, which it did `rescues` times. ended: why it stopped before its time.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    best: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0
    epochs: int = 0  # the length that was settled on, so that a resumed schedule is the same
    scores: list[tuple[int, float]] = field(default_factory=list)
    rate: float = 1.0
    rescues: int = 0
    ended: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)


def save(path: Path, position: Position, **parts: Any) -> None:
    """Writes the position, the torch random state and the state dicts of `parts`. Raises SetupError when it cannot."""
    state = {
        "position": asdict(position),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        **{name: part.state_dict() for name, part in parts.items() if part is not None},
    }
    _write(path, state)


def restore(path: Path, **parts: Any) -> Position:
    """Loads the parts in place and returns the position. Raises ModelError when the file is torn or of another recipe."""
    state = _read(path)
    try:
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        return Position(**state["position"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        hint = "start anew without `--resume`"
        raise ModelError("does not belong to this recipe or version", place=path, hint=hint) from error


def save_weights(path: Path, module: torch.nn.Module) -> None:
    _write(path, module.state_dict())


def load_weights(path: Path, module: torch.nn.Module) -> None:
    module.load_state_dict(_read(path))


def _write(path: Path, state: Any) -> None:
    content = io.BytesIO()  # a full disk must raise what disks raise, not what torch makes of it
    torch.save(state, content)
    with files.written_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError("not found", place=path, hint="the run has no checkpoint yet; start it anew") from None
    except weight_files.UNREADABLE as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ModelError(f"cannot be read ({why})", place=path) from error
