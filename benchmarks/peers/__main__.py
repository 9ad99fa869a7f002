"""The peers on the networks of the benchmark, each in an environment of its own: the same checkpoints, images and fine-tune.

    python -m benchmarks.peers

A finished cell stays (`benchmarks/.cache/peers`) as long as its checkpoint does. Writes `benchmarks/results/peers.json` and
`peers.md`. `python -m benchmarks.compression` measures them as well, unless it is asked for other methods.
"""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import data
from benchmarks.networks import NETWORKS
from benchmarks.peers.cells import PEERS, measure, report
from benchmarks.peers.environments import methods
from benchmarks.train import trained

BUDGETS = (0.5, 0.7)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the peers and write their table.")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=list(methods()), default=list(PEERS))
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS), help="shares of the MACs to remove")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="measure the cells asked for again")
    asked = parser.parse_args()
    os.nice(19)
    for network in asked.networks:
        trained(network, asked.seed)
    for budget in asked.budgets:
        for network in asked.networks:
            for method in asked.methods:
                if measure(network, method, budget, asked.seed, asked.again):
                    report()
    report()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except data.MissingDataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
