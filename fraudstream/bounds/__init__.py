"""What a message behind ingest can hold: every field's bounds, as strict as at the doors. Pure."""
