"""Metrics of every service: their names, and what each counts. About 1 us each."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# A counter whose name does not end with its unit has none here: `prometheus_client` appends it to
# the name, and the name is what dashboards and alert rules hold.
INGEST_RECORDS: Final = Counter(
    "fraud_ingest_records",
    "Records read from the raw topic, by outcome: accepted, dead_lettered, late.",
    ("outcome",),
    unit="records",
)
LOST_OFFSETS: Final = Counter(
    "fraud_lost_offsets",
    "Offsets that retention deleted before they were read; any is an alarm.",
    ("topic",),
    unit="offsets",
)
UNREADABLE_RECORDS: Final = Counter(
    "fraud_unreadable_records",
    "Records that no client can read: passed over, named in the log. Raw ones are dead letters.",
    ("topic",),
    unit="records",
)
QUARANTINED: Final = Counter(
    "fraud_quarantined_records",
    "Records behind ingest that a reader could not trust or read, by topic (or store) and reason.",
    ("topic", "reason"),
    unit="records",
)
QUARANTINE_LOST: Final = Counter(
    "fraud_quarantine_lost_entries",
    "Entries for the quarantine topic that were not written: queue_full, not_sent, too_many.",
    ("reason",),
    unit="entries",
)
INGEST_UNKNOWN_FIELDS: Final = Counter(
    "fraud_ingest_unknown_fields",
    "Fields of raw records that the schema does not have: they are dropped, the log names them.",
    unit="fields",
)
BANK_LABELS: Final = Counter(
    "fraud_bank_labels",
    "Labels of banks from their topic, by outcome: settled, refused.",
    ("outcome",),
    unit="labels",
)
FEATURES_ROWS: Final = Counter(
    "fraud_features_rows",
    "Accepted rows, by outcome: scored, duplicate, conflict, stale_shared.",
    ("outcome",),
    unit="rows",
)
CORRUPT_STATES: Final = Counter(
    "fraud_corrupt_states",
    "Card states with NaN or infinity, read as empty: the store or a writer damaged them.",
    unit="states",
)
BATCH_ROWS: Final = Histogram(
    "fraud_batch_rows",
    "Rows that one stage worked on together.",
    ("stage",),
    unit="rows",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
)
DECISIONS: Final = Counter(
    "fraud_decisions",
    "Decisions recorded, by action and by whether a stand-in made them.",
    ("action", "stand_in"),
    unit="decisions",
)
SCORED: Final = Counter(
    "fraud_scored_decisions",
    "Decisions made by the model, by the lower end of their score's bin; the runbook makes a PSI.",
    ("score_from",),
    unit="decisions",
)
RULE_SETS: Final = Counter(
    "fraud_rule_sets",
    "Published rule sets that scoring met, by outcome: served, refused (any is an alarm).",
    ("outcome",),
    unit="sets",
)
RULE_SET_VERSION: Final = Gauge("fraud_rule_set_version", "Version of the rule set that is served.")
RULE_FAULTS: Final = Counter(
    "fraud_rule_faults",
    "Conditions that could not be told, as by a division by zero: their rule did not fire.",
)
FOREIGN_RATES: Final = Counter(
    "fraud_foreign_rate_batches",
    "Batches of the stream whose amounts another rate table converted than this scorer's.",
    unit="batches",
)
STAGE_SECONDS: Final = Histogram(
    "fraud_stage_seconds",
    "Time that one batch spent in a stage.",
    ("stage",),
    unit="seconds",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
RESCORED: Final = Counter(
    "fraud_rescored_decisions",
    "Stand-in decisions that a model has scored since, by outcome: same, different, unscorable.",
    ("outcome",),
    unit="decisions",
)
ALERTS: Final = Counter("fraud_alerts", "Alerts published.", unit="alerts")
ENGINE_FALLBACK: Final = Gauge(
    "fraud_engine_fallback",
    "Models that the CPU engine serves instead of the GPU engine that was ordered; an alarm.",
)
ENGINE_CHANGES: Final = Counter(
    "fraud_engine_changes",
    "Changes of the engine that serves, by reason: not_opened, opened, gpu_memory, gpu_failed, "
    "gpu_absent, library_absent, engine_failed, closed.",
    ("reason",),
    unit="changes",
)
MODEL_SWAPS: Final = Counter(
    "fraud_model_swaps",
    "Models that came into service or were refused, by role: champion, canary, shadow.",
    ("role", "outcome"),
    unit="swaps",
)
MODEL_REFUSED: Final = Gauge(
    "fraud_model_refused",
    "1 while the ledger, or a model that it names for a role, is refused; the former serves on.",
    ("role",),
)
MODEL_ENTRY: Final = Gauge(
    "fraud_model_ledger_entry",
    "Ledger entry up to which models serve as ordered, as far as none was refused.",
)
SHADOWED: Final = Counter(
    "fraud_shadowed_decisions",
    "Decisions offered to challengers that decide nothing: scored, dropped (no time), failed.",
    ("outcome",),
    unit="decisions",
)
DECISION_FORKS: Final = Counter(
    "fraud_decision_forks",
    "Later decisions that differ from the first one of their identity; any is an alarm.",
    unit="forks",
)
OUTBOX_SWEPT: Final = Counter(
    "fraud_outbox_swept",
    "Outbox entries of a dead scorer that another one published.",
)
CALLS_REFUSED: Final = Counter(
    "fraud_calls_refused",
    "gRPC calls refused before they were parsed: unauthenticated, permission_denied, caller_full"
    " (its part of the door), door_full, message_late.",
    ("reason",),
)
ROWS_REFUSED: Final = Counter(
    "fraud_rows_refused",
    "Rows of known callers refused: another_bank, or pan_quota (card numbers over the quota).",
    ("reason",),
)
SHARDS_REBUILT: Final = Counter(
    "fraud_shards_rebuilt",
    "Shards rebuilt after a loss, by reason and outcome: switched, lost (again), other, failed.",
    ("reason", "outcome"),
)
CONSOLE_ALERTS: Final = Counter(
    "fraud_console_alerts",
    "Alerts read by the console, by outcome.",
    ("outcome",),
    unit="alerts",
)
CONSOLE_FAILURES: Final = Counter(
    "fraud_console_failures",
    "Times that a loop of the console was refused its work, by loop (alerts, labels) and by whom"
    " (database, broker).",
    ("loop", "refused_by"),
)
CONSOLE_LAG: Final = Gauge(
    "fraud_console_lag_records",
    "Alerts of this console's partitions that it has not stored yet.",
)
ARCHIVE_ROWS: Final = Counter(
    "fraud_archive_rows",
    "Records archived, by noun and outcome: written, unreadable (left out, any is an alarm).",
    ("noun", "outcome"),
    unit="rows",
)
ARCHIVE_FILES: Final = Counter(
    "fraud_archive_files", "Files that the archive finished, by noun.", ("noun",), unit="files"
)
ARCHIVE_LOST: Final = Counter(
    "fraud_archive_lost_offsets",
    "Offsets that the log no longer had when the archive came to them; any is an alarm.",
    ("noun",),
    unit="offsets",
)
ARCHIVE_LAG: Final = Gauge(
    "fraud_archive_lag_records",
    "Records of this worker's partitions that it has not read yet, by noun.",
    ("noun",),
    unit="records",
)
# Of a command, not of a service: in a file of its own, so in no process' registry.
DRIFT_PSI: Final = Gauge(
    "fraud_drift_psi",
    "Population stability index of a feature or of the score, no unit; over 0.2 is an alarm.",
    ("quantity",),
    registry=None,
)
DRIFT_CALIBRATION: Final = Gauge(
    "fraud_drift_calibration_ratio",
    "Mean score / fraud share on matured labels; 1 is right.",
    unit="ratio",
    registry=None,
)
SPANS_DROPPED: Final = Counter(
    "fraud_spans_dropped",
    "Finished spans that were not exported, by reason: queue_full, export_failed.",
    ("reason",),
)
