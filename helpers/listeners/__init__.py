"""Pretrained networks that turn sound into embeddings, which other models learn from.

Notebooks: 04.

naming (what features.listener says), listener (windows, and their mean), runs (of Earshot),
onnx_file, published (torchaudio, transformers, timm), embed (the clips of a run).
"""
