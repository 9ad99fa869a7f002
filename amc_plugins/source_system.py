"""The source page's compressors (section 4), with the names and keywords that its program uses, over `amc.capture` and
`amc.compress`.

    ca = LowRankDecompostion(origin_net=net, trainloader=trainloader, valloader=valloader, compress_ratio=0.5, device="cpu")
    ca.compress()
    compressed_net = ca.compressed_net

The class names are spelled as there, and as in a dictionary.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_plugins.core.errors import AmcError, SettingsError

if TYPE_CHECKING:
    from torch import nn

    from amc_plugins.compression import CompressionResult
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["ChannelPruning", "ChannelPrunning", "LowRankDecomposition", "LowRankDecompostion"]

logger = logging.getLogger("amc_plugins.source_system")

Ratios = float | Sequence[float] | Mapping[str, float]


class _SourceCompressor:
    """What both have.

    Args:
        origin_net: the trained network, a torch module or a captured one. Not changed.
        trainloader: batches of `(input, label)`; the data to fit on. Labels are not used.
        valloader: the same, held out; with `verbose` both networks' accuracy on it is logged.
        trainset_ratio: the share of the training data to use.
        sampled_pixels_per_img: output positions sampled per image and layer; None for as many as the fit needs.
        compress_ratio: the share of the MACs to remove from each layer: one number, numbers by layer name or glob, or one
            number for each convolution in running order (0 where a convolution cannot be compressed).
        checkpointfolder: `compressed_net.pkl`, drawings and the method's own files go there.
        device: of both networks.
        verbose: log what happens to stderr.
        drawgraph: draw both networks into `checkpointfolder` (HTML).
        accuracy_first, accuracy_threshold: remove only as much of that as leaves the accuracy on `valloader` at or above the
            threshold.
        args: the program's own arguments, kept as `args`.

    Raises:
        SettingsError: a keyword does not fit; on construction, before anything is computed.
    """

    _compressor: str

    def __init__(
        self,
        origin_net: nn.Module,
        trainloader: Iterable[Any],
        valloader: Iterable[Any] | None = None,
        *,
        trainset_ratio: float = 1.0,
        sampled_pixels_per_img: int | None = None,
        compress_ratio: Ratios = 0.5,
        checkpointfolder: str | os.PathLike[str] | None = None,
        device: Any = None,
        verbose: bool = False,
        drawgraph: bool = False,
        accuracy_first: bool = False,
        accuracy_threshold: float = 0.0,
        args: Any = None,
        **settings: Any,
    ) -> None:
        from amc_plugins.core.registry import registry

        self.args = args
        self.verbose = verbose
        self._trainloader, self._valloader = trainloader, valloader
        self._folder = None if checkpointfolder is None else Path(checkpointfolder)
        self._drawgraph = drawgraph
        if drawgraph and self._folder is None:
            raise SettingsError("`drawgraph` needs a `checkpointfolder` to draw into")
        if accuracy_threshold > 0 and not accuracy_first:
            raise SettingsError("`accuracy_threshold` has no meaning without `accuracy_first=True`")
        if accuracy_first and valloader is None:
            raise SettingsError("`accuracy_first` needs a `valloader` to measure the accuracy on")
        settings |= {"trainset_ratio": trainset_ratio, "accuracy_first": accuracy_first}
        settings |= {"accuracy_threshold": accuracy_threshold, "sampled_pixels_per_img": sampled_pixels_per_img}
        model = registry().spec("compressors", self._compressor).settings  # type: ignore[attr-defined]
        if self._folder is not None and "checkpointfolder" not in model.not_implemented:
            settings["checkpointfolder"] = str(self._folder)
        registry().create("compressors", self._compressor, settings)
        self._settings = settings
        self._origin = _captured(origin_net, trainloader, device)
        self._ratios = _ratios(self._origin, compress_ratio)
        self._result: CompressionResult | None = None

    @property
    def origin_net(self) -> ReconstructedNetwork:
        """The network given, captured, on `device`."""
        return self._origin

    @property
    def compressed_net(self) -> ReconstructedNetwork:
        """The result. Raises `AmcError` before `compress()`."""
        return self.result.network

    @property
    def result(self) -> CompressionResult:
        """The result with its figures. Raises `AmcError` before `compress()`."""
        if self._result is None:
            raise AmcError("there is no compressed network yet", hint="call compress() first")
        return self._result

    def compress(self) -> None:
        """Do it. Afterwards `compressed_net` is there.

        Raises:
            SettingsError: a ratio fits no layer, or the data does not fit the network.
        """
        from amc_plugins.compression import describe
        from amc_plugins.core.engine import compress
        from amc_plugins.core.objectives import accuracy

        amount = {"ratio": self._ratios} if isinstance(self._ratios, float) else {"ratios": self._ratios}
        with _shown(self.verbose):
            self._result = compress(
                self._origin,
                self._compressor,
                calibration=self._trainloader,
                evaluate=None if self._valloader is None else partial(accuracy, batches=self._valloader),
                **amount,
                **self._settings,
            )
            found = self._result
            logger.info("%s", describe(found.layers))
            logger.info("MACs %s -> %s: %.1f %% removed", found.macs_before, found.macs_after, 100 * found.removed)
            if self.verbose and self._valloader is not None:
                self._log_accuracy()
            if self._folder is not None:
                self._write(self._folder)

    def _log_accuracy(self) -> None:
        from amc_plugins.core.objectives import accuracy

        assert self._valloader is not None
        before, after = (accuracy(one, self._valloader) for one in (self._origin, self.compressed_net))
        logger.info("accuracy on valloader: %.4f -> %.4f", before, after)

    def _write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.compressed_net.save(pkl=folder / "compressed_net.pkl")
        if self._drawgraph:
            from amc_plugins.core.draw import draw

            draw(self._origin, folder / "origin_net.html")
            draw(self.compressed_net, folder / "compressed_net.html", before=self._origin)


class LowRankDecompostion(_SourceCompressor):
    """The page's low-rank decomposition: the plugin `lowrank`. `nonlinear_case` fits through the activations.

    See `_SourceCompressor` for the other keywords.
    """

    _compressor = "lowrank"

    def __init__(
        self, origin_net: nn.Module, trainloader: Iterable[Any], valloader: Iterable[Any] | None = None, **keywords: Any
    ) -> None:
        keywords.setdefault("nonlinear_case", False)
        super().__init__(origin_net, trainloader, valloader, **keywords)


class ChannelPrunning(_SourceCompressor):
    """The page's channel pruning: the plugin `pruning`. `lars_alpha_init` above 0 chooses channels by the LASSO path.

    See `_SourceCompressor` for the other keywords.
    """

    _compressor = "pruning"

    def __init__(
        self,
        origin_net: nn.Module,
        trainloader: Iterable[Any],
        valloader: Iterable[Any] | None = None,
        *,
        lars_alpha_init: float = 0.0,
        **keywords: Any,
    ) -> None:
        if lars_alpha_init > 0:
            keywords.setdefault("selection", "lasso")  # the penalty is the LASSO's
        super().__init__(origin_net, trainloader, valloader, lars_alpha_init=lars_alpha_init, **keywords)


LowRankDecomposition = LowRankDecompostion
ChannelPruning = ChannelPrunning


def _captured(network: nn.Module, data: Iterable[Any], device: Any) -> ReconstructedNetwork:
    """The network on `device`; a torch module is captured on the first sample of the data."""
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.core.capture import capture
    from amc_plugins.core.network import ReconstructedNetwork

    if isinstance(network, ReconstructedNetwork):
        captured = network.clone()
    else:
        where = next((one.device for one in network.parameters()), "cpu")
        (example,) = Calibration(data, samples=1)
        captured = capture(network, *(one.to(where) for one in example))
    return captured if device is None else captured.to(device)


def _ratios(network: ReconstructedNetwork, given: Ratios) -> float | dict[str, float]:
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, int | float):
        return float(given)
    convolutions = [name for name in network.layer_names if network.nodes_of(name)[0].op == "vn.conv2d"]
    shares = list(given)
    if len(shares) == 1:
        return float(shares[0])
    if len(shares) != len(convolutions):
        raise SettingsError(
            f"`compress_ratio` has {len(shares)} numbers, and the network has {len(convolutions)} convolutions",
            hint="give one number for all, one for each, or a mapping by layer name or glob",
        )
    return {name: float(share) for name, share in zip(convolutions, shares, strict=True)}


@contextmanager
def _shown(verbose: bool) -> Iterator[None]:
    """With `verbose`, log lines reach stderr also in a program that does not set up logging."""
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    before = logger.level
    if verbose:
        logger.setLevel(logging.INFO)
        if not root.handlers:
            logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
