"""What settings are worth, and a search for better ones.

Notebooks: none; the command line and the report.

variants (configs with settings changed, and which a search tries next), changes (settings changed
one by one, and what is said of them), cleaning (what cleaning steps are worth), ablation (what
ingredients of the recipe are worth), search (better settings, as a preset), words (what a search
says).
"""
