"""What a model says after a stand-in decision is added to its alert."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds the column that says so."""

    dependencies: ClassVar = [("console", "0001_initial")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="alert", name="is_rescored", field=models.BooleanField(default=False)
        ),
    ]
