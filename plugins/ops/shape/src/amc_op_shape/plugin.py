"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

# name: handler class, summary, module classes, `torch` names, tensor methods
_HANDLERS: dict[str, tuple[str, str, str, str, str]] = {
    "cat": ("_join:ConcatenateHandler", "tensors one behind the other on an axis", "Concatenate", "cat concat concatenate", ""),
    "stack": ("_join:StackHandler", "tensors beside each other along a new axis", "Stack", "stack", ""),
    "reshape": (
        "_reshape:ReshapeHandler",
        "the same entries in another shape",
        "TensorReshape",
        "reshape",
        "view reshape view_as reshape_as",
    ),
    "flatten": (
        "_reshape:FlattenHandler",
        "several axes become one",
        "torch.nn.Flatten TensorFlatten",
        "flatten ravel",
        "flatten ravel",
    ),
    "unflatten": (
        "_reshape:UnflattenHandler",
        "one axis becomes several",
        "torch.nn.Unflatten TensorUnflatten",
        "unflatten",
        "unflatten",
    ),
    "permute": (
        "_axes:PermuteHandler",
        "the axes in another order",
        "TensorTranspose",
        "permute movedim moveaxis",
        "permute movedim moveaxis",
    ),
    "transpose": (
        "_axes:TransposeHandler",
        "two axes change places",
        "TensorSwapAxes",
        "transpose swapaxes swapdims t",
        "transpose transpose_ swapaxes swapaxes_ swapdims swapdims_ t t_ T.__get__ mT.__get__",
    ),
    "squeeze": ("_axes:SqueezeHandler", "axes of size 1 go", "TensorSqueeze", "squeeze", "squeeze squeeze_"),
    "unsqueeze": ("_axes:UnsqueezeHandler", "a new axis of size 1", "TensorUnsqueeze", "unsqueeze", "unsqueeze unsqueeze_"),
    "expand": (
        "_expand:ExpandHandler",
        "axes of size 1 repeated without a copy",
        "TensorExpand",
        "broadcast_to",
        "expand expand_as broadcast_to",
    ),
    "unbind": ("_split:UnbindHandler", "every position of an axis by itself", "TensorUnbind", "unbind", "unbind"),
    "repeat": (
        "_repeat:RepeatHandler",
        "the whole tensor several times along axes",
        "TensorRepeat",
        "tile",
        "repeat tile",
    ),
    "repeat_interleave": (
        "_repeat:RepeatInterleaveHandler",
        "each position of an axis several times in a row",
        "TensorRepeatInterleave",
        "repeat_interleave",
        "repeat_interleave",
    ),
    "roll": ("_repeat:RollHandler", "axes rotated by a number of positions", "TensorRoll", "roll", "roll"),
    "flip": ("_repeat:FlipHandler", "axes backwards", "TensorFlip", "flip fliplr flipud", "flip fliplr flipud"),
    "setitem": ("_assign:SetItemHandler", "a part written over", "TensorSetItem", "", "__setitem__ copy_"),
    "windows": ("_gather:WindowsHandler", "sliding windows along an axis", "TensorWindows", "", "unfold"),
    "gather": ("_gather:GatherHandler", "entries at computed places of an axis", "TensorGather", "gather", "gather"),
    "chunk": ("_split:ChunkHandler", "a number of equal pieces along an axis", "TensorChunk", "chunk", "chunk"),
    "split": (
        "_split:SplitHandler",
        "pieces of given sizes along an axis",
        "TensorSplit",
        "functional.split split split_with_sizes tensor_split",
        "split split_with_sizes tensor_split",
    ),
    "slice": (
        "_slice:SliceHandler",
        "indexing with ints, slices, Ellipsis, None and known positions",
        "TensorSlice",
        "narrow select index_select",
        "__getitem__ narrow select index_select",
    ),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, modules, functions, methods) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 1),
            examples="amc_op_shape._examples:examples",
            target=f"amc_op_shape.{target}",
            captures=(
                *(module if "." in module else f"amc_op_shape.{module}" for module in modules.split()),
                *(f"torch.{function}" for function in functions.split()),
                *(f"torch.Tensor.{method}" for method in methods.split()),
            ),
        )
