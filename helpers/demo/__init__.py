"""The embedded data sets, made from physics.

Notebooks: None by itself; the recordings of the presets demo and demo_multilabel.

synth (ten sounds), dataset (an untidy set of them, with planted defects), mixtures (scenes of
several).
"""
