"""What is looked at and listened to.

Notebooks: All.

style, plots (recordings, features), score_plots (training, scores), boards (cards with sound),
preview (what a training step makes of clips).
"""
