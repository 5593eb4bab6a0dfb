"""What training leaves on disk: finished networks (weights and a card), and trainings under way, to
go on from.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from helpers.base import artifacts
from helpers.base.settings import Config
from helpers.models import networks

# --- finished networks --------------------------------------------------------------------------


def save(model, folder, labels, config, turn, **notes):
    """Write a classifier as weights (safetensors) and a card (JSON): labels, config, folds, the
    weights' SHA-256.
    """
    with artifacts.replacing(folder) as temporary:
        temporary.mkdir()
        weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        save_file(weights, temporary / "weights.safetensors")
        card = {
            "labels": labels,
            "folds": {**turn, "train": list(turn["train"])},
            "parameters": networks.count_parameters(model),
            "origin": getattr(model.network, "origin", "random"),  # of its weights before training
            **notes,
            "sha256": artifacts.file_digest(temporary / "weights.safetensors"),
            "config": config.model_dump(
                mode="json",
                include={
                    **dict.fromkeys(
                        ("preset", "seed", "audio", "clean", "features", "model", "train"), True
                    ),
                    "data": {"multilabel"},
                },
            ),
        }
        artifacts.write_json(temporary / "card.json", card)


def load(folder, config, device="cpu"):
    """A saved classifier, ready to predict: (model, card). Raises DamagedFile, such as for weights
    not the card's.
    """
    card = read_card(folder)
    weights = Path(folder) / "weights.safetensors"
    with artifacts.readable(weights):
        if artifacts.file_digest(weights) != card["sha256"]:
            raise ValueError("its SHA-256 is not the card's")
    model = networks.build(config, len(card["labels"]), fresh=False)
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError):
        raise artifacts.DamagedFile(
            weights, "holds the weights of another network than its card says"
        ) from None
    return model.to(device).eval(), card


def read_card(folder):
    """The card of a saved classifier, its config a Config. Raises DamagedFile."""
    path = Path(folder) / "card.json"
    card = artifacts.read_json(path)
    with artifacts.readable(path):
        return {
            **card,
            "labels": list(card["labels"]),
            "sha256": card["sha256"],
            "config": Config(**card["config"]),
        }


# --- trainings under way -----------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training, in one file; `digest` says of what: another training's state is not
    taken up.
    """

    path: Path
    digest: str

    def write(self, state):
        """Write a tree of dicts, lists, tensors and plain values, atomically."""
        tensors = {}
        tree = _without_tensors(state, tensors)
        with artifacts.replacing(self.path) as temporary:
            text = json.dumps(tree)
            tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
            notes = {"digest": self.digest, "tree": text, "sha256": checksum(text, tensors)}
            save_file(tensors, temporary, notes)

    def read(self):
        """The tree that was written, on the CPU; None where there is none, it is damaged, or of
        another training.
        """
        if not Path(self.path).is_file():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                notes = file.metadata() or {}
                if notes.get("digest") != self.digest:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
        except (SafetensorError, OSError):
            return None
        tree = notes.get("tree", "")
        if notes.get("sha256") != checksum(tree, tensors):
            return None
        return _with_tensors(json.loads(tree), tensors)


def checksum(tree, tensors):
    """SHA-256 of a text and of contiguous tensors on the CPU, which is all that a checkpoint holds:
    safetensors itself would not notice a flipped bit.
    """
    found = hashlib.sha256(tree.encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _without_tensors(tree, tensors):
    """The tree as JSON can hold it; its tensors go into the dict `tensors`, named by numbers."""
    if isinstance(tree, torch.Tensor):
        tensors[str(len(tensors))] = tree.clone()  # safetensors refuses two names of one memory
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(tree, dict):  # its keys may be numbers, which those of JSON may not
        return {"dict": [[key, _without_tensors(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return [_without_tensors(value, tensors) for value in tree]
    return tree


def _with_tensors(tree, tensors):
    """The inverse; tuples come back as lists."""
    if isinstance(tree, list):
        return [_with_tensors(value, tensors) for value in tree]
    if isinstance(tree, dict):
        if "tensor" in tree:
            return tensors[tree["tensor"]]
        return {key: _with_tensors(value, tensors) for key, value in tree["dict"]}
    return tree
