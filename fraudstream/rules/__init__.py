"""Rules and lists: read a rule set, check it, evaluate it, and what its findings do to an action.

`rule_set` is the file, `conditions` the language, `program` the whole set as one CEL program,
`ruling` what wins, `published` the signed version on its topic. `docs/rules.md` is for people.
"""
