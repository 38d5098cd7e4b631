"""The rule set of a recorded decision, and the action that it gives again."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from fraudstream.errors import RuleSetRefused
from fraudstream.features.catalogue import FEATURE_HASHES
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.rule_set import parse_rule_set
from fraudstream.settings import KafkaSettings
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.rules_pb2 import PublishedRuleSet
from services.scoring.decision.maker import apply_rules
from services.scoring.decision.rules_follower import load_rule_set, read_rules
from services.scoring.decision.verdict import Verdict, stand_in
from services.scoring.reasons.texts import FITS
from services.scoring.settings import ScoringSettings


def find_rule_set(
    kafka: KafkaSettings, settings: ScoringSettings, rule_set_hash: str
) -> RuleProgram | None:
    """Return the rule set with a hash: the configured file, or a version on the topic.

    The hash is over the content, so it does not matter who signed it.

    Raises:
        BrokerUnavailable: The topic cannot be read.
    """
    if settings.rule_set_file is not None:
        program = load_rule_set(settings.rule_set_file)
        if program.hash == rule_set_hash:
            return program
    for record in read_rules(kafka):
        try:
            published = PublishedRuleSet.FromString(record.value)
            if published.rule_set_hash == rule_set_hash:
                program = RuleProgram(parse_rule_set(published.content))
                if program.hash == rule_set_hash:
                    return program
        except (DecodeError, RuleSetRefused):
            continue  # what no scorer took is nothing to look for
    return None


def replay_action(decision: Decision, model_action: Action, program: RuleProgram) -> Action:
    """Return what the rules make of a recorded decision.

    Args:
        decision: As it was recorded.
        model_action: What the model's score asks for; of no account for a stand-in.
        program: The decision's rule set.
    """
    if decision.stand_in:
        verdict, vector = stand_in(decision.stand_in_cause), None
    else:
        verdict = Verdict(model_action, decision.score, decision.raw_score, FITS)
        vector = np.frombuffer(decision.vector, "<f4")
    return apply_rules(program, decision.transaction, verdict, vector, FEATURE_HASHES).action
