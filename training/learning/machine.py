"""What a fit runs on: a GPU where there is one, and as many processes as `torchrun` starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Machine:
    """One process of a fit.

    Attributes:
        device: Where it computes.
        rank: Its number, from 0; the first one writes and reports.
        ranks: How many there are.
    """

    device: torch.device
    rank: int = 0
    ranks: int = 1

    def placed(self, numbers: Tensor) -> Tensor:
        """Return a tensor on the device."""
        return numbers.to(self.device, non_blocking=True)

    def mixed(self) -> torch.autocast:
        """Return the precision of a step: bfloat16 where a GPU gains by it, else float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def joined(self, network: nn.Module) -> nn.Module:
        """Return a network whose gradients are the mean over all processes."""
        return network if self.ranks == 1 else DistributedDataParallel(network)


@contextmanager
def this_machine(threads: int) -> Iterator[Machine]:
    """Yield what this process fits on; under `torchrun` its part of all processes.

    Args:
        threads: Of PyTorch, in this process.
    """
    torch.set_num_threads(threads)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield Machine(device)
        return
    distributed.init_process_group("nccl" if has_gpu else "gloo")
    try:
        yield Machine(device, distributed.get_rank(), ranks)
    finally:
        distributed.destroy_process_group()
