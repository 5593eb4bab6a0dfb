"""The other models, the ensembles, and a trained run in use.

Notebooks: 06 and 08, the app.

classic (models on tables of features and embeddings), table_network (a dense one), rivals (every
model by name, ensembles), learning_curve (the score by the number of recordings), hearing (a whole
file: windows, events), inference (the bundle: waveform in, probabilities out), medley (recordings
whose events are known).
"""
