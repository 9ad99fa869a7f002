"""The graph for plugin authors: networks, their documents, channels, costs and edits."""

from __future__ import annotations

from amc_plugins.core.capture import capture, capturing
from amc_plugins.core.channels import ChannelGroup, ChannelMap, channel_groups, channel_map
from amc_plugins.core.describe import describe, document_and_tensors, make_layer, rebuild, tensors_of, typed_params
from amc_plugins.core.edit import consumers, insert_after, insert_before, producer, remove, replace, replace_all, set_layer
from amc_plugins.core.errors import GraphError, UnsupportedOpError
from amc_plugins.core.folding import fold_norms
from amc_plugins.core.macs import Profile, Row, ShrinkCost, profile
from amc_plugins.core.network import TORCH_DTYPES, ReconstructedNetwork, Step, handler_for, walk
from amc_plugins.core.shapes import shapes
from amc_plugins.core.shrink import shrink
from amc_plugins.core.structure import tensors_in

__all__ = [
    "TORCH_DTYPES",
    "ChannelGroup",
    "ChannelMap",
    "GraphError",
    "Profile",
    "ReconstructedNetwork",
    "Row",
    "ShrinkCost",
    "Step",
    "UnsupportedOpError",
    "capture",
    "capturing",
    "channel_groups",
    "channel_map",
    "consumers",
    "describe",
    "document_and_tensors",
    "fold_norms",
    "handler_for",
    "insert_after",
    "insert_before",
    "make_layer",
    "producer",
    "profile",
    "rebuild",
    "remove",
    "replace",
    "replace_all",
    "set_layer",
    "shapes",
    "shrink",
    "tensors_in",
    "tensors_of",
    "typed_params",
    "walk",
]
