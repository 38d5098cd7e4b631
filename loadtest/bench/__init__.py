"""The benchmark's framework: interleaved, repeated, side-by-side runs, a table and JSON rows."""
