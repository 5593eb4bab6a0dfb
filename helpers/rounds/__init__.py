"""Cross-validation of a network: one training per fold and seed.

Notebooks: 05.

learner (one round: its networks learn from some folds and predict another), machine (number format
and threads, by trial), train (all rounds, from where they stopped; what a reader is shown of them).
"""
