"""Model artefacts: format, checks, ledger, promotion and opening."""
