"""From bytes to clips, copies and spectrograms.

Notebooks: 01 to 04.

containers and decoder (what a file is, and what it holds), recording (load, resample, measure,
write), clean (steps of cleaning), windowing (clips and windows), augment (offline copies), features
(LogMel, the feature table), images.
"""
