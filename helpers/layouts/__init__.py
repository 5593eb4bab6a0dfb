"""How recordings lie in a folder, and what names and tables tell of them.

Notebooks: none by itself; 01 and every preset through `data` and `run`.

annotations (any file of labels as a table), filenames (what names tell), listing (what lies in a
folder), columns (what a table's columns tell), by_table (a folder read through its table), by_place
(what folders, lists and marks tell), words (what was recognised, or seen instead).
"""
