"""Every program and command of the project, by who needs it. Importing it loads no program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

PROGRAMS: Final[Mapping[str, str]] = {
    "demo": "demo.cli:run",
    "ingest": "services.ingest.cli:main",
    "features": "services.features.cli:main",
    "scoring": "services.scoring.cli.main:main",
    "console": "services.console.cli.main:main",
    "archive": "services.archive.cli:main",
    "training": "training.cli:run",
    "keys": "fraudstream.keys.cli:main",
}
"""Each program's entry point, which takes the arguments and returns the exit code."""

COMMANDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Newcomer: see the whole line work on one machine": {
        "demo": "run every service with simulated traffic, until Ctrl-C",
        "demo send": "send one transaction to the line that runs, print its decision",
        "demo replay": "stream a recorded data set through the whole line",
    },
    "Integrator: send transactions, call the service, correct what was refused": {
        "scoring token": "let a system call: makes its token",
        "scoring rules test": "say what a rule set does to one transaction",
        "ingest keys public": "print the public keys to which banks seal card numbers",
        "ingest labels import": "take in chargebacks and other labels of a file",
        "ingest dlq list": "list dead letters, one JSON line for each",
        "ingest dlq show": "show one dead letter",
        "ingest dlq replay": "correct dead letters and send them again",
    },
    "Analysts' administrator: people, rules and lists": {
        "console create-user": "make a user, or set a new first password",
        "console change-user": "unlock, disable or enable a user",
        "console list-users": "list users, for a review",
        "console audit": "print the audit trail and check its chain",
        "scoring rules check": "say whether a rule set is fit to serve",
        "scoring rules publish": "sign a rule set and have scoring serve it",
        "scoring rules status": "say which rule sets are published, and by whom",
    },
    "Data scientist: make models and measure them": {
        "training dataset": "make a training set of the log, the archive or files",
        "training train": "make a model artefact",
        "training search": "look for better settings of a model",
        "training evaluate": "measure models by a protocol, with report and model card",
        "training quantise": "make a model of int8",
        "training distil": "teach a smaller model",
        "training drift": "compare what comes now with a reference",
    },
    "Model-risk officer: sign, promote and prove": {
        "training person": "make a person's key",
        "training sign": "sign a model artefact",
        "training add": "check a signed artefact and put it in the repository",
        "training propose": "test a challenger and propose it",
        "training promote": "approve the proposal of another person",
        "training shadow": "let a challenger score beside the champion",
        "training canary": "approve a challenger for some cards",
        "training rollback": "make a former champion champion again, at once",
        "training retire": "end a challenger, or never serve a model again",
        "training status": "say what is served, and by whose order",
        "training parity": "prove the features of decisions, bit for bit",
        "scoring replay": "make a decision again, say what differs",
    },
    "Operator: services, topics, store and keys": {
        "ingest": "run the service that takes transactions in",
        "ingest labels follow": "run the service that takes labels in",
        "features card": "run the worker that has accepted transactions decided",
        "features entity": "run the worker that keeps states of terminals",
        "features label": "run the worker that brings labels to their entities",
        "features rebuild": "fill the store again from the log",
        "scoring": "run the service that decides",
        "console": "run the console, as `console serve` does",
        "console serve": "run the console",
        "console migrate": "bring the console's tables up to date, as their owner",
        "archive": "run the service that keeps the log as Parquet",
        "archive check": "look for holes and overlaps in the archive",
        "ingest topics create": "make the topics that are missing",
        "ingest topics check": "compare the topics with what they must be",
        "ingest privileges kafka": "print the script of Kafka's ACLs",
        "ingest privileges store": "print the ACL file of Valkey or Redis",
        "ingest privileges passwords": "make the passwords that a folder lacks",
        "ingest keys token": "make or rotate the keys of card tokens",
        "ingest keys seal": "make the pair of keys for dead letters",
        "ingest keys pan": "make one more pair for card numbers that banks seal",
        "ingest keys records make": "make the keys by which services know records",
        "ingest keys records add": "give each file one more key, which signs nothing yet",
        "ingest keys records activate": "have the newest key of each file sign",
        "ingest keys records drop": "take keys out that are older than the one that signs",
        "ingest keys records list": "say which key files services and people need",
        "keys kek": "make or rotate a key-encrypting key",
        "keys wrap": "wrap plain key files where they are",
        "keys rewrap": "put key files under the key-encrypting key in use",
        "keys show": "say what key files are, without a secret",
    },
}
"""What each reader types after `fraudstream`, and what it does."""

EXIT_CODES: Final[Mapping[int, str]] = {
    os.EX_OK: "done",
    1: "a comparison says no",
    os.EX_USAGE: "wrong arguments",
    os.EX_DATAERR: "a file, record or rule set has bad content",
    os.EX_NOINPUT: "a file that the command line names cannot be read",
    os.EX_UNAVAILABLE: "broker, store, database or service is not there",
    os.EX_SOFTWARE: "a fault of this software",
    os.EX_TEMPFAIL: "a passing trouble: start again",
    os.EX_NOPERM: "a signature does not count",
    os.EX_CONFIG: "settings, keys or topics are missing or invalid",
}
"""What every program ends with (docs/runbook.md says what to do)."""


def module_of(program: str) -> str:
    """Return what `python -m` calls a program.

    >>> module_of("scoring"), module_of("training")
    ('services.scoring', 'training')
    """
    return PROGRAMS[program].partition(".cli")[0]


def all_commands() -> Mapping[str, str]:
    """Return every command with what it does.

    >>> all_commands()["demo send"]
    'send one transaction to the line that runs, print its decision'
    """
    return {command: does for of in COMMANDS.values() for command, does in of.items()}
