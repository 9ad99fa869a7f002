# ruff: noqa
# fmt: off
"""The page's program of section 4 (Code-2). Changed: import lines, and the names that the page leaves undefined (`args`, `device`,
`net`, `trainloader`, `valloader`, `compress_algorithm`). Nothing else: python examples/source_programs/code2.py channelprunning
"""

import argparse

import torch

from amc_plugins.source_system import ChannelPrunning, LowRankDecompostion
from amc_training.data import digits_set
from cifar10.models.resnet import ResNet

parser = argparse.ArgumentParser(description='Code-2 on the digits images of scikit-learn')
parser.add_argument('compress_algorithm', choices = ['lowrankdecomposition', 'channelprunning'])
parser.add_argument('--compress_trainset_ratio', type = float, default = 0.5)
parser.add_argument('--compress_sampled_pixels_per_img', type = int, default = 10)
parser.add_argument('--compress_ratios', type = float, nargs = '+', default = [0.5])
parser.add_argument('--compress_acc_thresh', type = float, default = 0.)
parser.add_argument('--compress_nonlinear_case', action = 'store_true')
parser.add_argument('--compress_draw_graph', action = 'store_true')
parser.add_argument('--lars_alpha_init', type = float, default = 1e-5)
parser.add_argument('--checkpoint_folder', type = str, default = None)
parser.add_argument('--verbose', action = 'store_true')
parser.add_argument('--epochs', type = int, default = 3)
args = parser.parse_args()
compress_algorithm = args.compress_algorithm
device = 'cuda:0' if torch.cuda.is_available() else 'cpu'
def transform(image):
    return (image.expand(3, 8, 8) - 0.306) / 0.377
trainloader = torch.utils.data.DataLoader(digits_set("train", transform=transform), batch_size=64, shuffle=True)
valloader = torch.utils.data.DataLoader(digits_set("validation", transform=transform), batch_size=300)
torch.manual_seed(0)
net = ResNet((1, 1, 1, 1), planes=8).to(device)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
for epoch in range(args.epochs):
    for images, labels in trainloader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images.to(device)), labels.to(device)).backward()
        optimizer.step()

# the program of the page
if compress_algorithm=='lowrankdecomposition':
    if args.verbose:
        print("Using Low-Rank Decomposition Algorithom to compress.\n")
    ca = LowRankDecompostion(
            origin_net              = net, 
            trainloader             = trainloader, 
            valloader               = valloader,
            trainset_ratio          = args.compress_trainset_ratio, 
            sampled_pixels_per_img  = args.compress_sampled_pixels_per_img,
            compress_ratio          = args.compress_ratios, 
            checkpointfolder        = args.checkpoint_folder, 
            device                  = device, 
            verbose                 = args.verbose,
            drawgraph               = args.compress_draw_graph,
            accuracy_first          = True if args.compress_acc_thresh > 0 else False,
            accuracy_threshold      = args.compress_acc_thresh,
            nonlinear_case          = args.compress_nonlinear_case,
            args                    = args
            )
elif compress_algorithm=='channelprunning':
    if args.verbose:
        print("Using Channel Prunning Algorithom to compress.\n")
    ca = ChannelPrunning(
        origin_net              = net,                                 
        trainloader             = trainloader,
        valloader               = valloader,
        trainset_ratio          = args.compress_trainset_ratio, 
        sampled_pixels_per_img  = args.compress_sampled_pixels_per_img,
        compress_ratio          = args.compress_ratios, 
        checkpointfolder        = args.checkpoint_folder, 
        device                  = device, 
        drawgraph               = args.compress_draw_graph,
        verbose                 = args.verbose,
        lars_alpha_init         = args.lars_alpha_init,
        accuracy_first          = True if args.compress_acc_thresh > 0 else False,
        accuracy_threshold      = args.compress_acc_thresh,
        args                    = args
        )
else:
    RuntimeError("""Error, Unknow Compress Algorithm : {}""".format(compress_algorithm))
# 
origin_net = ca.origin_net
ca.compress()
compressed_net = ca.compressed_net
