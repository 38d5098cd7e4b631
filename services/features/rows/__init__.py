"""Rows of the stream: read, advanced, scored and sent on."""
