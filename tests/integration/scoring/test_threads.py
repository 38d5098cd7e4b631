"""gRPC's threads leave the core to a round of decisions that runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# In a process of its own: gRPC's threads begin once, with the first server or channel.
_SERVE = """
import asyncio, os
from pathlib import Path
from services.scoring.rpc.grants import AccessRole
from services.scoring.rpc.calls import RpcService
from services.scoring.rpc.server import Listener, RpcServer

async def serve():
    listener = Listener("127.0.0.1:0", 8, has_reflection=False)
    server = RpcServer(RpcService("bank.Scoring", AccessRole.CALLER, {}, {}), listener)
    await server.start()
    for task in Path("/proc/self/task").iterdir():
        print(task.name, (task / "comm").read_text().strip(), os.sched_getscheduler(int(task.name)))
    await server.stop(0)

print("main", os.getpid())
asyncio.run(serve())
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the policy is Linux's")
def test_grpcs_threads_are_batch_work_and_the_event_loop_is_not() -> None:
    """What wakes for a packet does not take the core from the event loop."""
    done = subprocess.run(
        [sys.executable, "-c", _SERVE], capture_output=True, text=True, timeout=60, check=True
    )
    (_, main), *threads = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    policies = {tid: told.rsplit(maxsplit=1) for tid, told in threads}
    engines = {policy for name, policy in policies.values() if name == "event_engine"}

    assert policies[main][1] == str(os.SCHED_OTHER)
    assert engines == {str(os.SCHED_BATCH)}
