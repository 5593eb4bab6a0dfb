"""Earshot: from a folder of recordings to an honest audio classifier.

Seventeen rooms, in reading order; a room imports only rooms above it:

base        what every room stands on: errors, files of a run, tables, labels, settings, threads
demo        the embedded data sets, made from physics
metrics     from probabilities to answers, scores, intervals, doubted labels
audio       from bytes to clips, copies, spectrograms
layouts     how recordings lie in a folder, and what names and tables tell
data        which recordings there are, and what their labels are
splits      which are used, what stays together, folds, and the proof
models      the networks, by name, and how they are kept
listeners   pretrained networks that turn sound into embeddings
training    how a network learns: batches, augmentation, losses, a step, an epoch
rounds      cross-validation: which networks learn from which folds, from where they stopped
submission  the contract with a competition
compare     the other models, the ensembles, a trained run in use
view        what is looked at and listened to
tuning      what settings are worth, and a search for better ones
delivery    what leaves a run, and what comes into another session
run         a preset becomes a run: settings, stages, report, the series, the command line

Beside them stands ``environment``, which runs before anything is installed. A notebook opens with
``run.begin``.
"""

import os

# Threads that wait for each other sleep. By default they spin, which on a busy machine slows
# training several times over (benchmarks/busy.py). OpenMP reads it when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
