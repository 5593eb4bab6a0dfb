"""Which recordings are used, what stays together, the folds, and the proof.

Notebooks: 02.

rules (what is set aside), duplicates (the same sound again), partition (groups, folds, rounds),
name_groups (groups that names propose), certificate (no group crosses), metadata and audit
(shortcuts).
"""
