"""The contract of an op: `LayerHandler`, and what its methods are given. This module is the reference page of the contract.

A handler owns its operation completely: how a recorded call becomes a module, what that module is in a document, what
it costs, what it does to channels, and what is left of it when channels go. The smallest useful one::

    class SwishHandler(ElementwiseHandler):
        \"\"\"x * sigmoid(beta * x)\"\"\"

        class Params(BaseModel):
            beta: float = 1.0

        module_class = Swish          # Swish(beta=1.0) with an attribute `beta`
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from amc_plugins.core.document import Ref
from amc_plugins.core.errors import AmcError, GraphError, UnsupportedOpError
from amc_plugins.core.handler_tools import assign_tensors, broadcast_shape, plain, resized, with_flags_of
from amc_plugins.core.specs import LayerHandlerSpec

__all__ = [
    "AmcError",
    "Call",
    "ChannelIds",
    "Declined",
    "ElementwiseHandler",
    "Int",
    "Kept",
    "LayerHandler",
    "LinearMap",
    "Params",
    "Ref",
    "Shape",
    "UnsupportedOpError",
    "Value",
    "assign_tensors",
    "broadcast_shape",
    "plain",
    "resized",
    "with_flags_of",
]

_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x1": "input", "x2": "other"}

Shape = tuple[int, ...]
Int = int | Ref
"""A parameter that may be an int known at run time only (a `Ref` to an int value)."""


class Params(BaseModel):
    """Base of the typed parameters of an op: no unknown names. `Int` fields may hold a `Ref`."""

    model_config = ConfigDict(extra="forbid")


class Declined(Exception):  # noqa: N818 - a signal to the recorder, not an error of the user
    """Raised by `LayerHandler.module` for a variant it does not cover; the call is then recorded as opaque, with this
    reason.
    """


@dataclass(frozen=True)
class Value:
    """A tensor in a recorded call. `constant` is the tensor itself when it is a parameter, a buffer or made outside
    the network.
    """

    name: str
    shape: Shape
    dtype: torch.dtype
    constant: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass
class Call:
    """One recorded call: of a module, a function or a tensor method. Tensors are `Value`, computed ints are `Ref`."""

    target: str
    """Dotted name: `torch.nn.functional.relu`, `torch.Tensor.view`, or the module's class."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    original: nn.Module | None = None
    """The user's module for a module call; a handler must not keep or change it."""
    result: Any = None
    """What the call returned, with `Value` in place of tensors."""
    taken: set[str] = field(default_factory=set)

    def bind(self, *names: str, **defaults: Any) -> dict[str, Any]:
        """The arguments by name. `names` are required, `defaults` optional, in the order of the function's signature.

        Raises:
            Declined: the call has an argument that is not among them.
        """
        order = [*names, *defaults]
        if len(self.args) > len(order):
            raise Declined(f"{self.target} with {len(self.args)} positional arguments")
        bound = {**defaults, **dict(zip(order, self.args, strict=False))}
        for name, value in self.kwargs.items():
            if name not in order:
                name = _NUMPY_NAMES.get(name, name)  # noqa: PLW2901 - torch takes numpy's argument names as well
            if name not in order:
                raise Declined(f"{self.target} with `{name}=`")
            bound[name] = value
        if missing := [name for name in names if name not in bound]:
            raise Declined(f"{self.target} without `{missing[0]}`")
        return bound

    def varargs(self, *names: str, keyword: str) -> tuple[dict[str, Any], list[Any]]:
        """For `x.view(2, 3)`, `x.view((2, 3))` and `x.view(shape=(2, 3))` alike: the leading arguments by name, and
        the list.
        """
        leading = dict(zip(names, self.args, strict=False))
        for name in names[len(leading) :]:
            if name not in self.kwargs:
                raise Declined(f"{self.target} without `{name}`")
            leading[name] = self.kwargs[name]
        rest: Any = self.args[len(names) :] or self.kwargs.get(keyword, ())
        if len(rest) == 1 and isinstance(rest[0], list | tuple):
            rest = rest[0]
        return leading, list(rest)

    def take(self, value: Value | None) -> Tensor | None:
        """The tensor behind a constant argument, which the module will own; it is then no input of the node.

        Raises:
            Declined: the argument is computed by the network.
        """
        if value is None:
            return None
        if value.constant is None:
            raise Declined(f"{self.target} with a computed `{value.name}` where a parameter was expected")
        self.taken.add(value.name)
        return value.constant.detach().clone()

    def values(self) -> list[Value]:
        """The node's inputs: every tensor of the call in call order, less those taken."""
        found: list[Value] = []
        _collect_values((self.args, self.kwargs), found)
        return [value for value in found if value.name not in self.taken]


def _collect_values(item: Any, found: list[Value]) -> None:
    if isinstance(item, Value):
        found.append(item)
    elif isinstance(item, list | tuple):
        for one in item:
            _collect_values(one, found)
    elif isinstance(item, dict):
        for one in item.values():
            _collect_values(one, found)


@dataclass(frozen=True)
class Kept:
    """What stays of one tensor: per restricted axis, the kept positions (ascending, long). Other axes are whole."""

    shape: Shape
    """The shape before."""
    indices: Mapping[int, Tensor] = field(default_factory=dict)

    def axis(self, axis: int) -> Tensor:
        """Kept positions on `axis` (negative counts from the end); all of them when it is not restricted."""
        axis %= len(self.shape)
        index = self.indices.get(axis)
        return torch.arange(self.shape[axis]) if index is None else index

    def restricts(self, axis: int) -> bool:
        return axis % len(self.shape) in self.indices

    @property
    def new_shape(self) -> Shape:
        return tuple(len(self.indices[axis]) if axis in self.indices else size for axis, size in enumerate(self.shape))


class ChannelIds(ABC):
    """The verbs of channel identity, handed to `LayerHandler.channels`.

    An id tensor has the shape of its value; entry by entry it holds the integer id of the channel that the entry
    belongs to. Entries with one id live and die together. Id tensors are int64 on broadcast (stride 0) views, so they
    cost no memory until an op lays them out; indexing, `permute`, `torch.cat` and the like work on them as on the
    values themselves.
    """

    output_shapes: Sequence[Shape]
    """Shapes of the node's outputs."""

    @abstractmethod
    def new(self, n: int, axis: int = 1, output: int = 0) -> Tensor:
        """The id tensor of an output whose `n` channels on `axis` are made here: every channel gets an id of its own."""

    @abstractmethod
    def channels(self, ids: Tensor, axis: int) -> Tensor:
        """One id per position on `axis` (1-D); ids that share a position are tied. For ops that index parameters by channel."""

    @abstractmethod
    def tie(self, *ids: Tensor) -> Tensor:
        """Unite the ids that lie on each other after broadcasting; returns the result's ids."""

    @abstractmethod
    def pin(self, ids: Tensor, why: str) -> None:
        """These channels cannot be removed, because of `why`."""

    @abstractmethod
    def straight(self, ids: Tensor) -> Tensor:
        """Tie ids so that removing any of them removes whole slices of one axis: what a view or reshape result needs."""

    @abstractmethod
    def fixed(self, why: str, output: int = 0) -> Tensor:
        """The id tensor of an output that holds no channels: nothing of it can be removed, because of `why`."""

    def varies(self, ids: Tensor, axis: int) -> bool:
        """Whether channels differ along `axis`. Axes on which the id tensor is a broadcast view are not looked at."""
        sizes, strides = list(ids.shape), ids.stride()
        if sizes[axis] == 1 or strides[axis] == 0:
            return False
        if 0 in strides:
            sizes = [1 if stride == 0 and size > 1 else size for size, stride in zip(sizes, strides, strict=True)]
            ids = ids.as_strided(sizes, strides, ids.storage_offset())
        return not torch.equal(ids, ids.narrow(axis, 0, 1).expand_as(ids))

    def mixed(self, ids: Tensor, axes: Sequence[int], why: str) -> Tensor:
        """The ids with `axes` cut to size 1, for an op that mixes entries along them: channels that differ there are pinned."""
        if any(self.varies(ids, axis) for axis in axes):
            self.pin(ids, why)
        return self.cut(ids, axes)

    def cut(self, ids: Tensor, axes: Sequence[int]) -> Tensor:
        """The ids at the first position of `axes`, which have size 1 afterwards."""
        if 0 in ids.shape:
            raise GraphError(f"there is no first position in ids of the shape {tuple(ids.shape)}")
        sizes = list(ids.shape)
        for axis in axes:
            sizes[axis] = 1
        return ids.as_strided(sizes, ids.stride(), ids.storage_offset())


class LinearMap(ABC):
    """A layer as `response = weight @ patch + bias` at every output position: the form that compressors fit.

    `weight` is (n, m), m = (c / groups) * q in channel-major order, as `weight.flatten(1)` of a convolution is; q is
    the number of taps.
    """

    in_channels: int
    out_channels: int
    taps: int
    groups: int
    weight: Tensor
    bias: Tensor | None
    input_axis: int
    """The axis of the input's channels: 1 for convolutions, -1 for linear layers."""

    @abstractmethod
    def positions(self, output: Shape, per_sample: int | None, generator: torch.Generator) -> Tensor:
        """Flat indices (R,) of output positions, uniform over the map of each sample; all of them when `per_sample` is None."""

    @abstractmethod
    def patches(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rows (R, c * q) of the input under each position, padding included, in the order of `weight`'s columns."""

    @abstractmethod
    def responses(self, y: Tensor, positions: Tensor) -> Tensor:
        """Rows (R, n) of the output at each position."""

    @abstractmethod
    def rebuilt(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """The same layer with other weights of (n', m'); channel counts follow from their shape."""


class LayerHandler:
    """How one operation is recorded, described, priced and shrunk. Stateless; override what differs from the defaults."""

    Params: ClassVar[type[BaseModel]] = Params
    """Typed parameters: the `.json` and `.vnmodel` form. Fields are JSON scalars, lists of them, or `Int`."""
    module_class: ClassVar[type[nn.Module] | None] = None
    """The module that stands for the op; `build` calls it with the parameters as keywords."""

    def __init__(self, spec: LayerHandlerSpec) -> None:
        self.spec = spec

    # --- recorded call -> module ---

    def module(self, call: Call) -> nn.Module:
        """The module that does what the call did. Default: a copy of the user's module for a module call.

        The module is called with the node's tensor inputs in order. A parameter that holds a `Ref` is passed as a
        keyword on each call instead, resolved: `module(x, shape=[4, 64])`. The module never works in place.

        Raises:
            Declined: this variant of the call is not covered.
        """
        if call.original is None:
            raise Declined(f"{self.spec.name} has no form for {call.target}")
        return copy.deepcopy(call.original)

    def unfolded(self, func: Callable[..., Any]) -> Callable[..., Any] | None:
        """Python code to record in place of a call of `func`, if its parts have handlers of their own. Default: one node."""
        return None

    # --- module <-> document ---

    def params(self, module: nn.Module) -> BaseModel:
        """Parameters of a module. Default: the attribute of each field's name."""
        return self.Params(**{name: plain(getattr(module, name)) for name in self.Params.model_fields})

    def tensors(self, module: nn.Module) -> dict[str, Tensor]:
        """Named tensor slots. Default: the module's own parameters and persistent buffers that are not None."""
        return {name: tensor.detach() for name, tensor in module.state_dict(keep_vars=True).items()}

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The inverse of `params` and `tensors`. Default: `module_class(**params)` and the tensors put into it.

        Raises:
            AmcError: slots are missing or of the wrong shape.
        """
        if self.module_class is None:
            raise UnsupportedOpError(
                f"handler `{self.spec.name}` cannot rebuild `{self.spec.op}`: it has no module_class and no build"
            )
        module = self.module_class(**{name: getattr(params, name) for name in self.Params.model_fields})
        assign_tensors(module, tensors)
        return module

    # --- analysis ---

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        """Output shapes, or None to let the core run the module on the meta device (the default)."""
        return None

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
        """Multiply-adds for these shapes, batch included. 0 for ops without multiplications by weights; None when unknown."""
        return 0

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor | Sequence[Tensor]:
        """Id tensors of the outputs from those of the inputs. Default: everything that touches this op is pinned."""
        for one in inputs:
            ids.pin(one, f"{self.spec.op} has no channel rule")
        outputs = [ids.new(shape[-1], axis=-1, output=index) for index, shape in enumerate(ids.output_shapes)]
        for one in outputs:
            ids.pin(one, f"{self.spec.op} has no channel rule")
        return outputs

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        """The module on the kept indices. Override it only if the op owns per-channel tensors or sizes.

        Called for nodes with a restricted input or output. Return a new module; the core copies mode, dtype, device
        and `requires_grad`.
        """
        return module

    def linear(self, module: nn.Module) -> LinearMap | None:
        """The layer as a linear map from patches to responses, if it is one: what makes it compressible. Default: it is not."""
        return None


class ElementwiseHandler(LayerHandler):
    """An op that works on each entry alone and owns no per-channel tensors: one tensor in, one out, channels untouched."""

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return inputs[0]

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        return [tuple(inputs[0])]
