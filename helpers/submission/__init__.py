"""The contract with a competition.

Notebooks: 01 and 08.

row_ids (the rows asked for), contract (header, shape, rows), priors (what is known before
anything is heard), submit (builds, checks, writes).
"""
