"""What every room stands on.

Notebooks: All notebooks, through the others.

errors (what stops a command), artifacts (files of a run: atomic, with a schema, digested), tables
(other people's CSV), targets (labels, one or several, as vectors), recipe and settings (every key,
its range and default), work (threads, bars, memory), code (digests of code).
"""
