"""Which recordings there are, and what their labels are.

Notebooks: 01, 02, 07 and 08.

sources (every file and its label), label_table (what tables say), relabel (labels judged anew),
public (data sets downloaded), folders (given, made or downloaded).
"""
