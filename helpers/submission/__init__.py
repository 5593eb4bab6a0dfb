"""The contract with a competition.

Notebooks: 01 and 08.

row_ids (the rows asked for), contract (header, shape, rows), submit (builds, checks, writes).
"""
