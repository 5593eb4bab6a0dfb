"""The networks, by name, and how they are kept.

Notebooks: 05 to 07.

networks (the classifier and its networks), resnet, backbones (timm), encoders (torchaudio and
transformers), checkpoints (on disk), explain (what an answer rests on).
"""
