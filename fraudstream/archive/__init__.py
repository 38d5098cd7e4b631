"""Parquet files of the archive: their columns, their batches and where they lie."""
