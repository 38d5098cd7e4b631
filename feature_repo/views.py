"""What `feast apply` registers: made from the catalogue, nothing is declared twice."""

from pathlib import Path

from fraudstream.feast_plugin.views import card_entity, feature_service, feature_views
from services.archive.settings import ArchiveSettings

_ROOT = Path(__file__).parent.parent

card = card_entity()
views = feature_views(_ROOT / ArchiveSettings.read().root / "decisions")
decision_vector = feature_service(views)
# Feast registers what it finds among a module's names.
globals().update({view.name: view for view in views})
