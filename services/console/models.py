"""The console's tables. Amounts are minor units, times are epoch milliseconds, UTC."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import User
from django.db import models
from django.db.models import Index, Q, UniqueConstraint


class Alert(models.Model):
    """One alert as it came from Kafka, with the columns that the queue sorts and shows.

    Written by the consumer: once, and once more where a model answers after a stand-in decision
    (`is_rescored`). Settling it changes `is_open` and `version`, nothing else.
    """

    alert_id: models.CharField[str, str] = models.CharField(primary_key=True, max_length=32)
    content_hash: models.CharField[str, str] = models.CharField(max_length=64)
    payload: models.BinaryField[bytes, bytes] = models.BinaryField()
    bank_id: models.CharField[str, str] = models.CharField(max_length=64)
    transaction_id: models.CharField[str, str] = models.CharField(max_length=128, db_index=True)
    card_token: models.CharField[str, str] = models.CharField(max_length=160, db_index=True)
    merchant_id: models.CharField[str, str] = models.CharField(max_length=256)
    action: models.SmallIntegerField[int, int] = models.SmallIntegerField()
    score: models.FloatField[float, float] = models.FloatField()
    amount_minor: models.BigIntegerField[int, int] = models.BigIntegerField()
    currency: models.CharField[str, str] = models.CharField(max_length=3)
    top_reason: models.CharField[str, str] = models.CharField(max_length=256)
    expected_loss_minor: models.BigIntegerField[int, int] = models.BigIntegerField()
    event_time_ms: models.BigIntegerField[int, int] = models.BigIntegerField()
    raised_at_ms: models.BigIntegerField[int, int] = models.BigIntegerField()
    stored_at_ms: models.BigIntegerField[int, int] = models.BigIntegerField(db_index=True)
    is_rescored: models.BooleanField[bool, bool] = models.BooleanField(default=False)
    is_open: models.BooleanField[bool, bool] = models.BooleanField(default=True)
    version: models.IntegerField[int, int] = models.IntegerField(default=0)

    objects: ClassVar[models.Manager[Alert]] = models.Manager()

    class Meta:
        """Indexes of the open queue, one for each order it can be shown in."""

        db_table = "alert"
        indexes: ClassVar[list[Index]] = [
            Index(
                fields=["-expected_loss_minor", "alert_id"],
                name="alert_open_loss",
                condition=Q(is_open=True),
            ),
            Index(
                fields=["-raised_at_ms", "alert_id"],
                name="alert_open_newest",
                condition=Q(is_open=True),
            ),
            Index(
                fields=["-score", "alert_id"], name="alert_open_score", condition=Q(is_open=True)
            ),
        ]

    def __str__(self) -> str:
        """Return its id."""
        return self.alert_id


class Settlement(models.Model):
    """Who settled which version of an alert how. Never changed."""

    alert: models.ForeignKey[Alert, Alert] = models.ForeignKey(
        Alert, on_delete=models.PROTECT, related_name="settlements"
    )
    alert_id: str
    version: models.IntegerField[int, int] = models.IntegerField()
    disposition: models.CharField[str, str] = models.CharField(max_length=16)
    analyst: models.CharField[str, str] = models.CharField(max_length=150)
    settled_at_ms: models.BigIntegerField[int, int] = models.BigIntegerField()

    objects: ClassVar[models.Manager[Settlement]] = models.Manager()

    class Meta:
        """One settlement for each version of an alert."""

        db_table = "settlement"
        constraints: ClassVar[list[UniqueConstraint]] = [
            UniqueConstraint(fields=["alert", "version"], name="settlement_once")
        ]

    def __str__(self) -> str:
        """Return alert, version and disposition."""
        return f"{self.alert_id}/{self.version}: {self.disposition}"


class OutboxLabel(models.Model):
    """A label on its way to Kafka. `sent_at_ms` is set after the broker acknowledged it."""

    id: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    label_id: models.CharField[str, str] = models.CharField(max_length=32, unique=True)
    card_token: models.CharField[str, str] = models.CharField(max_length=160)
    payload: models.BinaryField[bytes, bytes] = models.BinaryField()
    sent_at_ms: models.BigIntegerField[int, int] = models.BigIntegerField(default=0)

    objects: ClassVar[models.Manager[OutboxLabel]] = models.Manager()

    class Meta:
        """Index of what is still to be sent, in order."""

        db_table = "outbox_label"
        indexes: ClassVar[list[Index]] = [
            Index(fields=["id"], name="outbox_label_unsent", condition=Q(sent_at_ms=0))
        ]

    def __str__(self) -> str:
        """Return its label's id."""
        return self.label_id


class GuessCounter(models.Model):
    """Failed guesses at a name, from an address, by a browser or at a code; all stored hashed."""

    key: models.CharField[str, str] = models.CharField(primary_key=True, max_length=64)
    failures: models.IntegerField[int, int] = models.IntegerField()
    failed_at_ms: models.BigIntegerField[int, int] = models.BigIntegerField(db_index=True)

    objects: ClassVar[models.Manager[GuessCounter]] = models.Manager()

    class Meta:
        """Table name."""

        db_table = "guess_counter"

    def __str__(self) -> str:
        """Return how many failed."""
        return str(self.failures)


class Account(models.Model):
    """What signing in must know of a user beside Django's own columns."""

    user: models.OneToOneField[User, User] = models.OneToOneField(
        User, on_delete=models.CASCADE, primary_key=True
    )
    password_set_at_ms: models.BigIntegerField[int, int] = models.BigIntegerField()
    must_change_password: models.BooleanField[bool, bool] = models.BooleanField(default=False)
    signed_in_at_ms: models.BigIntegerField[int, int] = models.BigIntegerField()

    objects: ClassVar[models.Manager[Account]] = models.Manager()

    class Meta:
        """Table name."""

        db_table = "account"

    def __str__(self) -> str:
        """Return the user's name."""
        return self.user.get_username()


class FormerPassword(models.Model):
    """The hash of a password that a user had before."""

    id: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    user: models.ForeignKey[User, User] = models.ForeignKey(User, on_delete=models.CASCADE)
    password: models.CharField[str, str] = models.CharField(max_length=128)
    set_at_ms: models.BigIntegerField[int, int] = models.BigIntegerField()

    objects: ClassVar[models.Manager[FormerPassword]] = models.Manager()

    class Meta:
        """Table name."""

        db_table = "former_password"

    def __str__(self) -> str:
        """Return when it was replaced."""
        return str(self.set_at_ms)


class AuditEvent(models.Model):
    """Who did what, when, from where, to what, and whether it was done. Only ever appended."""

    id: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    at_ms: models.BigIntegerField[int, int] = models.BigIntegerField(db_index=True)
    who: models.CharField[str, str] = models.CharField(max_length=150)
    origin: models.CharField[str, str] = models.CharField(max_length=64)
    event: models.CharField[str, str] = models.CharField(max_length=32)
    outcome: models.CharField[str, str] = models.CharField(max_length=64)
    resource: models.CharField[str, str] = models.CharField(max_length=160)
    chain_hash: models.CharField[str, str] = models.CharField(max_length=64)

    objects: ClassVar[models.Manager[AuditEvent]] = models.Manager()

    class Meta:
        """Table name."""

        db_table = "audit_event"

    def __str__(self) -> str:
        """Return what was done."""
        return f"{self.event}: {self.outcome}"
