"""Pretrained networks that turn sound into embeddings, which other models learn from.

Notebooks: 04.

naming (what features.listener says), listener (windows, and their mean), runs (of Earshot),
onnx_told (what a graph tells of itself), onnx_file (how it is asked), published (torchaudio,
transformers, timm), embed (the clips of a run).
"""
