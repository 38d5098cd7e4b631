"""What a fit runs on: a GPU where there is one, and as many processes as `torchrun` starts."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

# A small step waits for the launch of its kernels, and casts are more of them. On an H100, LSTM and
# transformer, 64 and 512 wide: at 128 rows bfloat16 took 15 to 24 % longer than float32, at 2,048
# from 1 % longer to 62 % less.
_BFLOAT16_ROWS: Final = 2_048


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

    def is_mixed(self, rows: int) -> bool:
        """Return whether a step of so many rows gains by bfloat16 here.

        >>> [Machine(torch.device("cuda")).is_mixed(rows) for rows in (128, 2048)]
        [False, True]
        """
        return self.device.type == "cuda" and rows >= _BFLOAT16_ROWS

    def mixed(self, rows: int) -> torch.autocast:
        """Return the precision of a step: bfloat16 where a GPU gains by it, else float32.

        Args:
            rows: Of a step, in this process.
        """
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_mixed(rows))

    def chance(self) -> list[Tensor]:
        """Return the states of the generators that a step draws from."""
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states

    def restore_chance(self, states: list[Tensor]) -> None:
        """Draw on from states that `chance` returned on a machine of this kind."""
        torch.set_rng_state(states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.device)

    def joined(self, network: nn.Module) -> nn.Module:
        """Return a network whose gradients are the mean over all processes.

        A part that a loss leaves out has no gradient.
        """
        if self.ranks == 1:
            return network
        return DistributedDataParallel(network, find_unused_parameters=True)


def is_first_process() -> bool:
    """Return whether this process reports and writes: the only one, or `torchrun`'s first."""
    return os.environ.get("RANK", "0") == "0"


def this_machine(threads: int) -> Machine:
    """Return what this process fits on; under `torchrun` its part of all processes.

    Args:
        threads: Of PyTorch, in this process.
    """
    torch.set_num_threads(threads)
    has_gpu = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Machine(device)
    if not distributed.is_initialized():  # once a process, for all its fits
        distributed.init_process_group("nccl" if has_gpu else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Machine(device, distributed.get_rank(), distributed.get_world_size())
