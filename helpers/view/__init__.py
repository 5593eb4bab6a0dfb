"""What is looked at and listened to.

Notebooks: All.

style, plots (recordings, features), score_plots (training, scores), curves (learning curves in
words), boards (cards with sound), preview (what a training step makes of clips).
"""
