"""What is looked at and listened to.

Notebooks: All.

style, plots (recordings, folds, features), score_plots (training, scores), curves (learning
curves in words), boards (cards with sound, the code of a function), preview (a training step,
and training under way), results (of a run), lessons (what a wave, a spectrum and a window are).
"""
