"""The command `replay`: make a decision again, and print what differs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from typing import Final

from fraudstream.broker.log_reader import partition_count
from fraudstream.features.catalogue import FEATURE_NAMES, SEQUENCE_CHANNELS, SEQUENCE_LENGTH
from fraudstream.models.open_engine import open_engine
from fraudstream.models.repository import read_head
from fraudstream.names import word_of
from fraudstream.parity.compare import differences, fault_of
from fraudstream.parity.initial import InitialStates
from fraudstream.parity.rebuild import WIDENED
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, partition_of
from fraudstream.v1.decision_pb2 import Action, Decision, StandInCause
from services.scoring.inference.model_source import cpu_class, open_repository
from services.scoring.replay.log import (
    Features,
    Found,
    find_in_archive,
    find_in_log,
    has_moved_rows,
    rebuild_features,
)
from services.scoring.replay.rules import find_rule_set, replay_action
from services.scoring.replay.score import (
    TO_THE_BIT,
    Difference,
    ScoreReplay,
    action_differences,
    identity_differences,
    replay_score,
)
from services.scoring.settings import ScoringSettings

_DIFFERENT: Final = 1


def run_replay(asked: argparse.Namespace) -> int:
    """Find the decision that is asked for and make it again; return the exit code.

    Raises:
        BrokerUnavailable: The broker does not answer, or a topic is missing.
        ModelRefused: Its model is not in the repository, or not as it was added.
        InvalidSettings: A setting or file is missing or invalid.
    """
    kafka = KafkaSettings.read()
    initial = InitialStates.read(asked.past)
    found = _find(kafka, asked)
    if found is None:
        _say(f"decision {asked.decision_id}: there is no record of it")
        return os.EX_DATAERR
    return replay(kafka, ScoringSettings.read(), found, initial)


def _find(kafka: KafkaSettings, asked: argparse.Namespace) -> Found | None:
    if asked.archive:
        return find_in_archive(asked.archive, asked.decision_id, _say)
    partition = asked.partition
    if asked.card_token:
        partition = partition_of(asked.card_token.encode(), partition_count(kafka, DECISIONS))
    return find_in_log(kafka, asked.decision_id, partition, _say)


def replay(
    kafka: KafkaSettings, settings: ScoringSettings, found: Found, initial: InitialStates
) -> int:
    """Make a found decision again and print the outcome; return the exit code.

    Args:
        kafka: Where its logs are.
        settings: Where its model and rules are.
        found: The decision.
        initial: States that were loaded beside the log.
    """
    decision = found.decision
    for line in _about(found):
        print(line)
    fault = fault_of(decision)
    if decision.vector and fault:
        print(f"not replayed: {fault}; the release that made it can")
        return os.EX_DATAERR
    missing, differing = _compare(kafka, settings, found, initial)
    if differing:
        print(f"first difference  {differing[0]}")
        print(f"{len(differing)} differences in all")
        return _DIFFERENT
    if missing:
        print(f"identical, but for {missing}")
        return os.EX_UNAVAILABLE
    print("identical")
    return os.EX_OK


def _compare(
    kafka: KafkaSettings, settings: ScoringSettings, found: Found, initial: InitialStates
) -> tuple[str, list[Difference]]:
    """Return what is not there any more to compare with, and what differs."""
    decision = found.decision
    missing, action = [], Action.ACTION_UNSPECIFIED
    differing = list(identity_differences(decision))
    if decision.vector:
        rebuilt = rebuild_features(kafka, found, initial, _say)
        lacking, more = _compare_features(decision, rebuilt)
        if more and has_moved_rows(kafka, decision):
            lacking, more = WIDENED, []
        missing += [f"its features: {lacking}"] if lacking else []
        differing += more
    if not decision.stand_in:
        replayed = _replay_score(settings, decision)
        differing += replayed.differences
        action = replayed.action
    if decision.rule_set_hash:
        program = find_rule_set(kafka, settings, decision.rule_set_hash)
        if program is None:
            where = (
                "FRAUD_SCORING_RULE_SET_FILE names another, and the topic has none with its hash"
            )
            return "; ".join([*missing, f"its action: {where}"]), differing
        action = replay_action(decision, action, program)
        print(f"action    {word_of(Action, action)}, by the same rules")
    return "; ".join(missing), [*differing, *action_differences(decision, action)]


def _about(found: Found) -> Iterator[str]:
    decision = found.decision
    at = decision.coordinates
    door = (
        f"offset {at.offset} of the accepted topic" if decision.HasField("coordinates") else "gRPC"
    )
    decided = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(decision.event_time_ms / 1_000))
    yield f"decision  {decision.decision_id}, event time {decided}"
    yield f"          by {door}, partition {found.partition}"
    if not decision.stand_in:
        yield f"made by   model {decision.model_hash}, {decision.engine_version}"
        yield f"          in a batch of {decision.batch_bucket}, on {decision.cpu_class}"
    else:
        cause = word_of(StandInCause, decision.stand_in_cause)
        kind = "a stand-in decision"
        if decision.stand_in_cause == StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE:
            kind = "a provisional stand-in decision: the store was not there"
        yield f"made by   no model: {kind} ({cause}); it has no score to make again"
    if decision.rule_set_hash:
        yield f"          and rule set {decision.rule_set_hash}"


def _compare_features(decision: Decision, rebuilt: Features | str) -> tuple[str, list[Difference]]:
    """Return what the log lacks, and what differs."""
    if isinstance(rebuilt, str):
        return rebuilt, []
    found = [
        Difference(name, repr(recorded), repr(now))
        for name, recorded, now in differences(decision, rebuilt.vector, rebuilt.sequence)
    ]
    if found and not rebuilt.is_whole:
        return f"the log's first records have expired, and with them {found[0]}", []
    if not found:
        shape = f"{len(FEATURE_NAMES)} and {SEQUENCE_LENGTH} x {len(SEQUENCE_CHANNELS)} values"
        print(f"features  identical: {shape}, from {rebuilt.rows} rows of the card in the log")
    return "", found


def _replay_score(settings: ScoringSettings, decision: Decision) -> ScoreReplay:
    repository = open_repository(settings, epoch_ms)
    seen = read_head(settings.model_head_file) if settings.model_head_file else None
    artefact = repository.load_hash(repository.read(seen), decision.model_hash)
    engine = open_engine(artefact)
    try:
        replayed = replay_score(decision, artefact, engine, cpu_class())
    finally:
        engine.close()
    bound = "to the bit" if replayed.bound == TO_THE_BIT else f"within {replayed.bound:g}"
    verdict = "differs" if replayed.differences else "identical"
    print(f"score     {verdict}, compared {bound}: {replayed.why}")
    return replayed


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
