"""What may never be kept: card numbers and sensitive authentication values, found in any text.

`detector` answers the two public questions, what kind a value holds and how it reads masked; the
other modules are its parts. Why the rules are as they are: ADR-0022.
"""
