"""Names that Feast's reads are keyed by. Importing Feast takes ten seconds; this does not."""

from __future__ import annotations

from typing import Final

CARD_KEY: Final = "card_token"
TIME: Final = "event_timestamp"
