"""`python -m loadtest.engines [--gpu] [--json FILE]`: build, check and time every engine here."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from loadtest.engines.contest import hold_contest
from loadtest.engines.contestants import contestants
from loadtest.engines.networks import SHAPES, subject
from loadtest.engines.results import header, of_network, table
from loadtest.engines.roofline import matmul_flops
from loadtest.engines.timing import Effort

_NO_GPU: Final = 69  # EX_UNAVAILABLE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 69 where a GPU is asked for and none is there."""
    options = _parser().parse_args(arguments)
    if options.gpu and not torch.cuda.is_available():
        sys.stderr.write(f"--gpu: PyTorch {torch.__version__} finds no GPU\n")
        return _NO_GPU
    torch.set_num_threads(1)  # as an engine of a service has
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    torch.backends.cuda.matmul.allow_tf32 = False
    effort = Effort(options.rounds, options.slot_ms / 1000)
    flops = matmul_flops(is_gpu=options.gpu)
    results = header(effort, flops, is_gpu=options.gpu)
    results["networks"] = {}
    for name in options.networks:
        one = subject(name)
        entries = hold_contest(one, contestants(is_gpu=options.gpu), effort, is_gpu=options.gpu)
        found = of_network(one, entries, flops, is_gpu=options.gpu)
        results["networks"][name] = found
        sys.stdout.write(table(name, found) + "\n")
        if options.json:  # after each network: a run that is cut short has left what it measured
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m loadtest.engines", description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="time the engines of the first GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument(
        "--networks", nargs="+", choices=list(SHAPES), default=list(SHAPES), metavar="NAME"
    )
    parser.add_argument("--rounds", type=int, default=7, help="slots of each engine (default 7)")
    parser.add_argument("--slot-ms", type=int, default=200, help="length of a slot (default 200)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
