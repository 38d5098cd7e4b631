"""Workers that exist to be measured: one process each, said `ready` on stdout when connected."""
