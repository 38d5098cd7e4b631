"""A stand-in decision, what a model says of it later, and the alert where the two differ. Pure."""

from __future__ import annotations

from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.rescore_pb2 import Rescore, StandIn
from services.scoring.decision.feature_arrays import Layout
from services.scoring.decision.message import Subject
from services.scoring.decision.verdict import Verdict
from services.scoring.publishing.alert import build_alert


def stand_in_of(decision: Decision, subject: Subject, layout: Layout) -> StandIn:
    """Return a stand-in decision with the features of its row of the log.

    Args:
        decision: As it was recorded, perhaps by the gRPC door without any features.
        subject: Its row of the log.
        layout: Of the row's features.
    """
    kept = StandIn(decision=decision, feature_hashes=layout.feature_hashes)
    kept.decision.ClearField("seal")  # of other arrays
    kept.decision.vector = subject.vector
    kept.decision.sequence = subject.sequence
    kept.decision.feature_set_hash = layout.feature_set_hash
    kept.decision.sequence_hash = layout.sequence_hash
    return kept


def rescore_of(
    decision: Decision, verdict: Verdict, rule_set_hash: str, rescored_at_ms: int
) -> Rescore:
    """Return what model and rules say of a stand-in decision."""
    return Rescore(
        decision_id=decision.decision_id,
        bank_id=decision.bank_id,
        transaction_id=decision.transaction_id,
        card_token=decision.card_token,
        decided_action=decision.action,
        stand_in_cause=decision.stand_in_cause,
        action=verdict.action,
        score=verdict.score,
        raw_score=verdict.raw_score,
        reasons=verdict.why.reasons,
        model_hash=verdict.model_hash,
        rule_set_hash=rule_set_hash,
        engine_version=verdict.engine_version,
        event_time_ms=decision.event_time_ms,
        rescored_at_ms=rescored_at_ms,
        trace_id=decision.trace_id,
    )


def rescored_alert(decision: Decision, rescore: Rescore) -> Alert | None:
    """Return the alert of a decision that a model would have made otherwise; None where it agrees.

    It has the id of the decision's own alert, and belongs into that where there is one.
    """
    if rescore.action == rescore.decided_action:
        return None
    alert = build_alert(decision)
    alert.rescore.CopyFrom(rescore)
    alert.raised_at_ms = rescore.rescored_at_ms
    alert.expected_loss_minor = round(rescore.score * decision.transaction.amount_reference_minor)
    return alert
