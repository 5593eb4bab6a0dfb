"""From probabilities to answers, scores, intervals and doubted labels.

Notebooks: 05 to 08.

scoring (metrics on arrays), intervals (how far a score may be off), decisions (answers, thresholds,
calibration), evaluate (metrics by name, with intervals), events (sounds found in time), suspects
(labels in doubt).
"""
