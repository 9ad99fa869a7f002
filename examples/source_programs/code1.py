# ruff: noqa
# fmt: off
"""The page's program of section 3 (Code-1). Changed: import lines. Nothing else: python examples/source_programs/code1.py
It writes origin_net.svg, origin_net.png and origin_net.html where it is run.
"""

import os

import torch
import torch.nn as nn
from cifar10.models.resnet import ResNet18
from amc_plugins import reconstructor
network = ResNet18()
reconstructor.insertCaptureBoundaryStart(network)
oup = network(torch.rand(1, 3, 32, 32))
reconstructor.insertCaptureBoundaryEnd()
reconstructed_network, graph = reconstructor.getReconstructedNetwork(
    ifDraw=True, 
    drawPath=os.path.join('./', "origin_net")
    )
