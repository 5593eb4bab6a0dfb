"""The networks, by name, and how they are kept.

Notebooks: 05 and 06.

networks (the classifier and its networks), resnet, backbones (timm), checkpoints (on disk).
"""
