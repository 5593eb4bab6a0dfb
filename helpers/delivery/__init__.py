"""What leaves a run, and what comes into another session.

Notebooks: All, through `begin`; kaggle_inference.

export (a run's networks as one folder and zip), onnx_graph (the networks as a graph of ONNX),
sessions (a run begun in another session), kit (what is uploaded to Kaggle), hidden (a hidden test
set, predicted in a given time), blend (answers of several runs as one).
"""
