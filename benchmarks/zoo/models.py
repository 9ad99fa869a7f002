"""The models of the zoo: every torchvision classification, segmentation, detection-backbone, optical-flow and video model
that builds without a download, and timm architectures chosen for their variety.

Images are small where a model takes them, so that each takes seconds.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Entry", "entry", "finish", "names", "seeded"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One model."""

    name: str
    make: Callable[[], nn.Module]
    shape: Shape
    """Of one input, without the batch."""
    other: Shape
    """Another image size (or length) to try."""
    native: Shape
    """What its authors use, for timings; `shape` where the model was built for that size."""
    inputs: int = 1

    def batch(self, size: int, shape: Shape | None = None, seed: int = 0) -> tuple[Tensor, ...]:
        """`size` different samples."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(size, *(shape or self.shape), generator=generator) for _ in range(self.inputs))


@dataclass(frozen=True)
class _Rule:
    """How the models whose names match are built and fed; the first match counts."""

    pattern: str
    size: int
    other: Shape | None = None
    """Height and width; default 32 more pixels in height."""
    native: int = 224
    frames: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


_TORCHVISION = (
    _Rule("alexnet", 96),
    _Rule("googlenet", 64, settings={"init_weights": False}),
    _Rule("inception_v3", 96, native=299, settings={"init_weights": False}),
    _Rule("maxvit_t", 224),
    _Rule("vit_h_14", 56, (56, 70), native=56, settings={"image_size": 56}),
    _Rule("vit_._32", 96, native=96, settings={"image_size": 96}),
    _Rule("vit_._16", 64, (64, 80), native=64, settings={"image_size": 64}),
    _Rule("swin_v2_.*", 128, (96, 128), native=256),
    _Rule("swin_.", 112, (96, 112)),
    _Rule("ssd300_vgg16", 300, native=300),
    _Rule("ssdlite.*", 96, native=320),
    _Rule("raft_.*", 128, (128, 160), native=256),
    _Rule("mvit_.*", 224, frames=16),
    _Rule("s3d", 224, (224, 256), frames=16),
    _Rule("swin3d_.", 112, (96, 112), frames=8),
    _Rule("(mc3|r3d|r2plus1d)_18", 64, native=112, frames=8),
    _Rule(".*", 64),
)

_TIMM = {
    64: """
        convnext_atto convnext_tiny_hnf convnextv2_atto efficientnet_b0_gn tf_efficientnet_b0 efficientnet_lite0
        tf_efficientnetv2_b0 efficientnetv2_rw_t mobilenetv1_100 mobilenetv2_050 mobilenetv3_small_050 tf_mobilenetv3_large_100
        mobilenetv4_conv_small regnetx_002 regnety_002 regnetz_005 res2net50_26w_4s res2next50 resnest14d resnest50d_4s2x40d
        densenet121 densenetblur121d dla34 dla60_res2net hrnet_w18_small ghostnet_050 ghostnetv2_100 repvgg_a0 repvgg_b1g4
        mobileone_s0 cspresnet50 cspdarknet53 cs3darknet_s ese_vovnet19b_dw vovnet39a dm_nfnet_f0 eca_nfnet_l0 nf_regnet_b0
        xception41 legacy_xception mixnet_s tf_mixnet_s fbnetc_100 fbnetv3_b lcnet_050 edgenext_xx_small poolformer_s12
        mobilevit_xxs mobilevitv2_050 resnet26d ecaresnet26t seresnet18 skresnet18 resnetblur18 resnetv2_50
        resnetv2_50x1_bit rexnet_100 dpn68 selecsls42 hardcorenas_a tinynet_e semnasnet_050 convmixer_768_32 starnet_s050
        hgnetv2_b0 inception_next_atto repvit_m0_9 pvt_v2_b0 focalnet_tiny_srf mambaout_femto efficientvit_b0 fasternet_t0
    """,
    96: "inception_v3 inception_v4 inception_resnet_v2",
    0: """
        mobilenetv4_hybrid_medium maxvit_pico_rw_256 maxvit_tiny_tf_224 coatnet_pico_rw_224 coatnet_nano_cc_224
        vit_tiny_patch16_224 vit_small_patch32_224 deit_tiny_patch16_224 deit_tiny_distilled_patch16_224
        deit3_small_patch16_224 swin_tiny_patch4_window7_224 swin_s3_tiny_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224
        levit_128s levit_conv_128s efficientformer_l1 efficientformerv2_s0 mixer_s32_224 resmlp_12_224 gmlp_ti16_224
        pit_ti_224 cait_xxs24_224 crossvit_9_240 convit_tiny coat_lite_tiny twins_svt_small visformer_tiny
        xcit_nano_12_p16_224 eva02_tiny_patch14_224 volo_d1_224 nest_tiny davit_tiny tiny_vit_5m_224 fastvit_t8
        hiera_tiny_224 botnet26t_256
    """,
}
"""Names by image size; 0 is the size that the model was made for."""


def names() -> list[str]:
    """`torchvision/...` and `timm/...`, in the order in which the table lists them."""
    from torchvision import models

    modules = {
        "": models,
        "segmentation/": models.segmentation,
        "detection/": models.detection,
        "optical_flow/": models.optical_flow,
        "video/": models.video,
    }
    found = [
        f"torchvision/{part}{name}"
        for part, module in modules.items()
        for name in sorted(models.list_models(module=module))
    ]
    return found + [f"timm/{name}" for listed in _TIMM.values() for name in listed.split()]


def entry(name: str) -> Entry:
    """The model of that name. Raises KeyError when the zoo has none."""
    library, _, rest = name.partition("/")
    if name not in names():
        raise KeyError(f"the zoo has no `{name}`")
    return _torchvision(name, rest) if library == "torchvision" else _timm(name, rest)


def _torchvision(name: str, rest: str) -> Entry:
    from torchvision import models

    part, _, model = rest.rpartition("/")
    rule = next(one for one in _TORCHVISION if re.fullmatch(one.pattern, model))

    def make() -> nn.Module:
        backbone = {"weights_backbone": None} if part in ("segmentation", "detection") else {}
        built = models.get_model(model, weights=None, **backbone, **rule.settings)
        return built.backbone if part == "detection" else built

    return _entry(name, make, rule, inputs=2 if part == "optical_flow" else 1)


def _timm(name: str, rest: str) -> Entry:
    import timm

    size = next(size for size, listed in _TIMM.items() if rest in listed.split())
    native = timm.get_pretrained_cfg(rest, allow_unregistered=False).input_size[-1]
    rule = _Rule(rest, size or native, native=native)
    return _entry(name, lambda: timm.create_model(rest, pretrained=False), rule)


def _entry(name: str, make: Callable[[], nn.Module], rule: _Rule, inputs: int = 1) -> Entry:
    front = (3, rule.frames) if rule.frames else (3,)
    other = rule.other or (rule.size + 32, rule.size)
    return Entry(
        name, make, (*front, rule.size, rule.size), (*front, *other), (*front, rule.native, rule.native), inputs
    )


def finish(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode with nothing left at a value that hides mistakes: statistics of batch norms, and parameters that
    start as one number (zeros of a last batch norm or of a position embedding, a layer scale of 1e-6), become random.
    """
    generator = torch.Generator().manual_seed(seed)

    def spread(tensor: Tensor, low: float, high: float) -> None:
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for parameter in model.parameters():
        first = float(parameter.flatten()[0])
        if bool((parameter == first).all()):
            spread(parameter, *((-0.3, 0.3) if first == 0.0 else (0.5, 1.5)))
    for module in model.modules():
        mean, variance = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        if isinstance(mean, Tensor) and isinstance(variance, Tensor):
            spread(mean, -0.5, 0.5)
            spread(variance, 0.5, 1.5)
    return model.eval()


@contextlib.contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Constructors draw from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
