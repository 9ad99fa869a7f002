"""The five steps of a training that a subclass may override, and their spellings."""

from __future__ import annotations

from amc_training._errors import TrainingError

__all__ = ["STEPS", "join_spellings"]

STEPS: dict[str, tuple[str, ...]] = {
    "get_train_batch_preds": ("__get_train_batch_preds__",),
    "get_train_losses": ("__get_train_losses__",),
    "get_val_batch_preds": ("__get_val_batch_preds__",),
    "get_val_losses": ("__get_val_losses__",),
    "if_stop_training": ("__if_stop_training__", "__if_stop_trainning__", "if_stop_trainning"),
}
"""The name of each step, and the other spellings that a subclass may define instead."""


def join_spellings(cls: type) -> None:
    """Make all spellings of a step the same method of `cls`: the one that is nearest in its method resolution order.

    So the loop calls one name, and `super().<any spelling>` works, whatever the classes between define.

    Raises:
        TrainingError: one class defines two spellings of a step differently.
    """
    for name, others in STEPS.items():
        spellings = (name, *others)
        for owner in cls.__mro__:
            own = {spelling: vars(owner)[spelling] for spelling in spellings if spelling in vars(owner)}
            if not own:
                continue
            method = next(iter(own.values()))
            if any(other is not method for other in own.values()):
                raise TrainingError(f"`{owner.__name__}` defines one step in two ways: {' and '.join(own)}; keep one of them")
            for spelling in spellings:
                if getattr(cls, spelling, None) is not method:
                    setattr(cls, spelling, method)
            break
