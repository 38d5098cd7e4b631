"""What `feast apply` registers: made from the catalogue, nothing is declared twice."""

from pathlib import Path

from fraudstream.feast_views import card_entity, feature_service, feature_views

card = card_entity()
views = feature_views(Path(__file__).parent.parent / "var" / "archive" / "decisions")
card_view, terminal_view = views
decision_vector = feature_service(views)
