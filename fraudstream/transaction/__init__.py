"""Transactions: their fields, identity, money, card tokens and reasons for refusal."""
