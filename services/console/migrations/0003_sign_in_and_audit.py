"""What signing in keeps of users and of guesses, and the audit trail."""

from typing import ClassVar

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds four tables. That of failed logins stays for the release before this one."""

    dependencies: ClassVar = [
        ("console", "0002_alert_is_rescored"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations: ClassVar = [
        migrations.CreateModel(
            name="Account",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("password_set_at_ms", models.BigIntegerField()),
                ("must_change_password", models.BooleanField(default=False)),
                ("signed_in_at_ms", models.BigIntegerField()),
            ],
            options={"db_table": "account"},
        ),
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at_ms", models.BigIntegerField(db_index=True)),
                ("who", models.CharField(max_length=150)),
                ("origin", models.CharField(max_length=64)),
                ("event", models.CharField(max_length=32)),
                ("outcome", models.CharField(max_length=64)),
                ("resource", models.CharField(max_length=160)),
                ("chain_hash", models.CharField(max_length=64)),
            ],
            options={"db_table": "audit_event"},
        ),
        migrations.CreateModel(
            name="FormerPassword",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("password", models.CharField(max_length=128)),
                ("set_at_ms", models.BigIntegerField()),
            ],
            options={"db_table": "former_password"},
        ),
        migrations.CreateModel(
            name="GuessCounter",
            fields=[
                (
                    "key",
                    models.CharField(max_length=64, primary_key=True, serialize=False),
                ),
                ("failures", models.IntegerField()),
                ("failed_at_ms", models.BigIntegerField(db_index=True)),
            ],
            options={"db_table": "guess_counter"},
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.DeleteModel(name="FailedLogin")]
        ),
    ]
