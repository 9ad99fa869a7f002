"""`BaseDistiller`: `BaseTrainer` with a teacher. What is learnt from it is a sum of terms, each with a weight."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from amc_plugins.plugin import SettingsError
from amc_plugins.training import TrainingResult
from amc_training._base import BaseTrainer
from amc_training._features import Taps, matched, paired_moments
from amc_training._losses import AttentionTransfer, Hint, LogitDistillation
from amc_training._values import predict

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["BaseDistiller", "Distilling", "Terms"]


class Terms(nn.Module):
    """What a student learns from its teacher: `forward` gives each term by name, not weighted.

    Args:
        student, teacher: the networks; layers are matched by name, see `hints`.
        logits: weight of the divergence of class probabilities at `temperature` (Hinton et al. 2015).
        hints: layers, by name or glob, whose outputs the student imitates through a learnt 1 x 1 map (Romero et al. 2015).
        attention: the same for attention maps (Zagoruyko and Komodakis 2017).
        hint_weight, attention_weight: of the means over these layers.
        inputs: batches of the networks' inputs, needed with hints: their maps start from the least squares over them.

    Raises:
        SettingsError: a name matches nothing, a layer gives no tensor with channels, or nothing would be learnt.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        logits: float = 1.0,
        temperature: float = 2.0,
        hints: Sequence[str] = (),
        hint_weight: float = 1.0,
        attention: Sequence[str] = (),
        attention_weight: float = 1000.0,
        inputs: Iterable[tuple[Any, ...]] = (),
    ) -> None:
        super().__init__()
        self.weights = {"logits": logits, "hint": hint_weight, "attention": attention_weight}
        self.logits = LogitDistillation(temperature) if logits else None
        self.hinted = matched(student, teacher, hints, "hint_layers") if hint_weight else []
        self.attended = matched(student, teacher, attention, "attention_layers") if attention_weight else []
        if self.logits is None and not self.hinted and not self.attended:
            raise SettingsError(
                "nothing would be learnt from the teacher: give a weight of its class probabilities, or layers to imitate"
            )
        self.attention = AttentionTransfer()
        self.maps = nn.ModuleList()
        if self.hinted:
            for moments in paired_moments(student, teacher, self.hinted, inputs):
                hint = Hint(*moments.cross.shape)
                hint.start(moments)
                self.maps.append(hint)

    def taps(self, student: nn.Module, teacher: nn.Module) -> tuple[Taps, Taps]:
        """Taps of the layers whose outputs are compared."""
        pairs = [*self.hinted, *self.attended]
        return Taps(student, dict.fromkeys(a for a, _ in pairs)), Taps(teacher, dict.fromkeys(b for _, b in pairs))

    def forward(
        self, student: Any, teacher: Any, features: Mapping[str, Tensor], teacher_features: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if self.logits is not None:
            found["logits"] = self.logits(student, teacher)
        if self.hinted:
            each = [one(features[a], teacher_features[b]) for one, (a, b) in zip(self.maps, self.hinted, strict=True)]
            found["hint"] = torch.stack(each).mean()
        if self.attended:
            found["attention"] = torch.stack(
                [self.attention(features[a], teacher_features[b]) for a, b in self.attended]
            ).mean()
        return found


class Distilling(BaseTrainer):
    """The steps of a training with a teacher, for a subclass that says with `_learn_from` what is learnt."""

    _teacher: nn.Module
    _terms: Terms
    _label_weight: float
    _taps: tuple[Taps, Taps] | None = None
    _seen: tuple[Any, dict[str, Tensor], dict[str, Tensor]] | None = None

    def _learn_from(self, teacher: nn.Module, terms: Terms, label_weight: float) -> None:
        self._teacher = teacher if self._device is None else teacher.to(self._device)
        self._terms = terms if self._device is None else terms.to(self._device)
        self._label_weight = label_weight

    def run(self, **kwargs: Any) -> TrainingResult:
        self._taps = self._terms.taps(self._module, self._teacher)
        modes = [(module, module.training) for module in self._teacher.modules()]
        self._teacher.eval()
        try:
            return super().run(**kwargs)
        finally:
            for taps in self._taps:
                taps.remove()
            self._taps = self._seen = None
            for module, training in modes:
                module.training = training

    def get_teacher_batch_preds(self, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """The teacher's predictions for one training batch. Default: the teacher on `batch[0]`."""
        return predict(self._teacher, batch_train_data, self._device)

    def get_train_batch_preds(self, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
        assert self._taps is not None
        with torch.no_grad():
            theirs = self.get_teacher_batch_preds(batch_train_data, *args, **kwargs)
        preds = super().get_train_batch_preds(batch_train_data, *args, **kwargs)
        self._seen = theirs, self._taps[0].take(), self._taps[1].take()
        return preds

    def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        assert self._seen is not None
        theirs, features, teacher_features = self._seen
        self._seen = None
        losses = self._terms(batch_preds, theirs, features, teacher_features)
        total = sum(self._terms.weights[name] * loss for name, loss in losses.items())
        if self._label_weight:
            losses["task"] = super().get_train_losses(batch_preds, batch_train_data, *args, **kwargs)["total_loss"]
            total = total + self._label_weight * losses["task"]
        return {"total_loss": total, **losses}

    def extra_state(self) -> dict[str, Any]:
        return {**super().extra_state(), "terms": self._terms.state_dict()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        super().load_extra_state(state)
        self._terms.load_state_dict(state["terms"])

    def _helping(self) -> list[nn.Parameter]:
        return [*super()._helping(), *self._terms.parameters()]


class BaseDistiller(Distilling):
    """A `BaseTrainer` whose network learns from a teacher too.

    Every training batch runs through the teacher as well, in eval mode and without gradients; `total_loss` is
    `label_weight` times the criterion on labels plus the weighted terms, and each of them is logged. With `label_weight` 0
    batches need no labels. Override `get_teacher_batch_preds` where the teacher reads something else than the network does.

    Args:
        teacher: a trained network; moved to `device`, its weights are never changed.
        terms: what is learnt from it, by default its class probabilities; its parameters are trained if the optimizer has them.
        label_weight: of the criterion on labels.
        options: the further keywords of `BaseTrainer`.
    """

    def __init__(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None,
        eval_loader: Iterable[Any] | None,
        network: nn.Module,
        criterion: Any,
        optimizer: Optimizer,
        scheduler: Any,
        epochs: int,
        device: torch.device | str | None = None,
        tbx_writer: Any = None,
        checkpoints_folder: str | os.PathLike[str] | None = None,
        additional_args: Any = None,
        *,
        teacher: nn.Module,
        terms: Terms | None = None,
        label_weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(
            train_loader, val_loader, eval_loader, network, criterion, optimizer, scheduler, epochs, device, tbx_writer,
            checkpoints_folder, additional_args, **options,
        )  # fmt: skip
        self._learn_from(teacher, terms if terms is not None else Terms(network, teacher), label_weight)
