"""The first tables."""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes the console's tables."""

    initial = True
    dependencies: ClassVar = []
    operations: ClassVar = [
        migrations.CreateModel(
            name="FailedLogin",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name_hash", models.CharField(db_index=True, max_length=64)),
                ("address_hash", models.CharField(db_index=True, max_length=64)),
                ("failed_at_ms", models.BigIntegerField(db_index=True)),
            ],
            options={
                "db_table": "failed_login",
            },
        ),
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("alert_id", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("content_hash", models.CharField(max_length=64)),
                ("payload", models.BinaryField()),
                ("bank_id", models.CharField(max_length=64)),
                ("transaction_id", models.CharField(db_index=True, max_length=128)),
                ("card_token", models.CharField(db_index=True, max_length=160)),
                ("merchant_id", models.CharField(max_length=256)),
                ("action", models.SmallIntegerField()),
                ("score", models.FloatField()),
                ("amount_minor", models.BigIntegerField()),
                ("currency", models.CharField(max_length=3)),
                ("top_reason", models.CharField(max_length=256)),
                ("expected_loss_minor", models.BigIntegerField()),
                ("event_time_ms", models.BigIntegerField()),
                ("raised_at_ms", models.BigIntegerField()),
                ("stored_at_ms", models.BigIntegerField(db_index=True)),
                ("is_open", models.BooleanField(default=True)),
                ("version", models.IntegerField(default=0)),
            ],
            options={
                "db_table": "alert",
                "indexes": [
                    models.Index(
                        condition=models.Q(("is_open", True)),
                        fields=["-expected_loss_minor", "alert_id"],
                        name="alert_open_loss",
                    ),
                    models.Index(
                        condition=models.Q(("is_open", True)),
                        fields=["-raised_at_ms", "alert_id"],
                        name="alert_open_newest",
                    ),
                    models.Index(
                        condition=models.Q(("is_open", True)),
                        fields=["-score", "alert_id"],
                        name="alert_open_score",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="OutboxLabel",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("label_id", models.CharField(max_length=32, unique=True)),
                ("card_token", models.CharField(max_length=160)),
                ("payload", models.BinaryField()),
                ("sent_at_ms", models.BigIntegerField(default=0)),
            ],
            options={
                "db_table": "outbox_label",
                "indexes": [
                    models.Index(
                        condition=models.Q(("sent_at_ms", 0)),
                        fields=["id"],
                        name="outbox_label_unsent",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Settlement",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", models.IntegerField()),
                ("disposition", models.CharField(max_length=16)),
                ("analyst", models.CharField(max_length=150)),
                ("settled_at_ms", models.BigIntegerField()),
                (
                    "alert",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="settlements",
                        to="console.alert",
                    ),
                ),
            ],
            options={
                "db_table": "settlement",
                "constraints": [
                    models.UniqueConstraint(fields=("alert", "version"), name="settlement_once")
                ],
            },
        ),
    ]
