"""Augmentation of whole batches, by kornia."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch.utils.data import default_collate

from amc_plugins.plugin import SettingsError, nearest

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Augment", "collate"]

Augment = Literal["none", "flip", "crop", "crop_flip", "erase", "randaugment"]
"""`crop` shifts by up to an eighth of the size; `crop_flip` flips left and right too; `erase` adds random erasing (Zhong
et al., AAAI 2020), `randaugment` two random changes of ten (Cubuk et al., CVPR Workshops 2020)."""


def collate(augment: str, size: tuple[int, int]) -> Callable[[list[Any]], Any]:
    """The `collate_fn` of a loader that augments: images (N, C, H, W) in [0, 1] of this size, with their labels.

    Draws from torch's global generator, as the rest of a training does.

    Raises:
        SettingsError: an unknown name.
    """
    if augment not in get_args(Augment):
        raise SettingsError(
            f"`augment` is {augment!r}, not one of {', '.join(get_args(Augment))}{nearest(augment, get_args(Augment))}"
        )
    return default_collate if augment == "none" else _Augmented(augment, size)


class _Augmented:
    """Picklable, for loaders with workers."""

    def __init__(self, augment: str, size: tuple[int, int]) -> None:
        import kornia.augmentation as K

        steps: list[Any] = []
        if augment != "flip":
            padding = max(1, size[0] // 8), max(1, size[1] // 8)
            steps.append(K.RandomCrop(size, padding=padding))
        if augment != "crop":
            steps.append(K.RandomHorizontalFlip())
        if augment == "erase":
            steps.append(K.RandomErasing(p=0.5))
        if augment == "randaugment":
            from kornia.augmentation.auto import RandAugment

            steps.append(RandAugment(n=2, m=10))
        self.transform = K.AugmentationSequential(*steps, data_keys=["input"])

    def __call__(self, samples: list[Any]) -> Any:
        images, labels = default_collate(samples)
        changed: Tensor = self.transform(images)
        return changed.clamp(0.0, 1.0), labels
