"""Users of the store, on a real one: each gives its own commands for its own keys, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import redis

from fraudstream.privileges import PRINCIPALS, Principal
from fraudstream.settings import KafkaSettings, RedisSettings
from harness.servers import ValkeyServer
from services.ingest.setup.privileges_command import ADMINISTRATOR, STORE, store_users, user_name
from tests.servers.guarded_servers import run_ingest

USERS: Final = [one for one in PRINCIPALS if one.store]
CARD, ENTITY, OTHER, STRANGE = "fraud:{p3}:marker", "fraud:{e0}:marks", "fraud:x", "other:{p3}:m"
# One of each group of commands, with arguments that it takes.
OF_KEYS: Final = {
    "get": ("GET", "{}"),
    "set": ("SET", "{}", "v"),
    "hgetall": ("HGETALL", "{}"),
    "hset": ("HSET", "{}", "f", "v"),
    "rpush": ("RPUSH", "{}", "v"),
    "lrange": ("LRANGE", "{}", "0", "1"),
    "zadd": ("ZADD", "{}", "1", "m"),
    "unlink": ("UNLINK", "{}"),
    "mget": ("MGET", "{}"),
    "getrange": ("GETRANGE", "{}", "0", "1"),
    "rename": ("RENAME", "{}", "{}"),
    "dump": ("DUMP", "{}"),
    "restore": ("RESTORE", "{}", "0", "v"),
    "copy": ("COPY", "{}", "{}"),
}
WRITING: Final = {"set", "hset", "rpush", "zadd", "unlink"}
OF_SERVERS: Final = (
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "x"),
    ("EVAL", "return 1", "0"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("MONITOR",),
    ("DEBUG", "SLEEP", "1"),
    ("SHUTDOWN",),
    ("REPLICAOF", "a", "1"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "a:1"),
    ("SAVE",),
    ("SUBSCRIBE", "x"),
    ("PUBLISH", "x", "y"),
    ("SWAPDB", "0", "1"),
    ("MIGRATE", "a", "1", "k", "0", "1"),
    ("MODULE", "LIST"),
)
by_user = pytest.mark.parametrize("one", USERS, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passwords of all principals, by the command that an operator uses."""
    folder = tmp_path_factory.mktemp("passwords")
    run_ingest(["privileges", "passwords", str(folder)], {})
    return folder


@pytest.fixture(scope="module")
def guarded(passwords: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A store with the users of the table."""
    folder = tmp_path_factory.mktemp("store")
    file = folder / "users.acl"
    file.write_text(store_users(KafkaSettings(), RedisSettings(), passwords))
    server = ValkeyServer(
        folder,
        (passwords / STORE / ADMINISTRATOR).read_text().strip(),
        acl_file=file,
        user=user_name(KafkaSettings(), ADMINISTRATOR),
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def administrator(guarded: ValkeyServer) -> Iterator[redis.Redis]:
    """A connection of the store's administrator."""
    with redis.Redis.from_url(guarded.url) as client:
        yield client


def is_allowed(client: redis.Redis, one: Principal, words: tuple[str, ...]) -> bool:
    """Ask the store what it would say to a user's command."""
    user = user_name(KafkaSettings(), one.name)
    said = client.execute_command("ACL", "DRYRUN", user, *words)  # type: ignore[no-untyped-call]  # redis-py's own
    return said in (b"OK", True)


def holds(one: Principal, key: str, *, for_writing: bool) -> bool:
    """Return whether the table gives a user a key."""
    assert one.store
    patterns = one.store.writes if for_writing else (*one.store.writes, *one.store.reads)
    return any(key.startswith(f"fraud:{pattern.rstrip('*')}") for pattern in patterns)


@by_user
@pytest.mark.parametrize("key", [CARD, ENTITY, OTHER, STRANGE])
def test_user_has_its_own_keys_by_its_own_commands(
    administrator: redis.Redis, one: Principal, key: str
) -> None:
    """For every user, kind of key and command: the store's answer is the table's."""
    assert one.store
    expected = {
        name: name in one.store.commands and holds(one, key, for_writing=name in WRITING)
        for name in OF_KEYS
    }

    found = {
        name: is_allowed(administrator, one, tuple(word.format(key) for word in words))
        for name, words in OF_KEYS.items()
    }

    assert found == expected


@by_user
def test_user_commands_no_server(administrator: redis.Redis, one: Principal) -> None:
    """What lists, empties, copies, reconfigures or ends a server is nobody's but the operator's."""
    assert [words for words in OF_SERVERS if is_allowed(administrator, one, words)] == []


@by_user
def test_script_does_no_more_than_its_caller(
    guarded: ValkeyServer, passwords: Path, one: Principal
) -> None:
    """A script that a service loads gives its commands as that service."""
    word = (passwords / STORE / one.name).read_text().strip()
    server = guarded.url.rpartition("@")[2]
    with redis.Redis.from_url(
        f"redis://{user_name(KafkaSettings(), one.name)}:{word}@{server}"
    ) as client:
        if one.store and "evalsha" not in one.store.commands:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.script_load("return 1")
            return
        of_server = client.script_load("return redis.call('FLUSHALL')")
        of_key = client.script_load("return redis.call('GET', ARGV[1])")

        for sha, arguments in ((of_server, ()), (of_key, (STRANGE,))):
            with pytest.raises(redis.exceptions.ResponseError, match=r"ACL|permission"):
                client.evalsha(sha, 0, *arguments)


def test_nobody_comes_in_without_a_name(guarded: ValkeyServer, passwords: Path) -> None:
    """No default user, no password of another, and none before its password is made."""
    server = guarded.url.rpartition("@")[2]
    other = (passwords / STORE / "scoring").read_text().strip()

    for login in ("", f":{other}@", f"fraudstream-features-card:{other}@"):
        with (
            redis.Redis.from_url(f"redis://{login}{server}") as client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            client.ping()


def test_file_without_passwords_lets_nobody_in(tmp_path: Path) -> None:
    """The file in `ops/valkey` is safe as it is: a user without a password cannot log in."""
    users = store_users(KafkaSettings(), RedisSettings(), None)

    assert "nopass" not in users
    assert users.count("resetpass") == users.count("\n")
