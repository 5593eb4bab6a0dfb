"""Cross-entropy in its plain, weighted and focal forms, for one label per clip or several.

Class imbalance is met in one of four ways (``train.balance``): not at all; by class weights in the
loss; by drawing rare classes more often; by the focal loss, which looks away from what is already
learned.
"""

import torch
import torch.nn.functional as F

FOCUS = 2.0  # exponent of the focal loss, its authors' choice


def loss(logits, targets, balance="none", weights=None, multilabel=False):
    """Mean loss of a batch.

    Args: logits [B, C]; targets [B, C], distributions over the classes, or with multilabel each
        class in [0, 1]; balance "none", "weights", "sampling" (the same here) or "focal" (Lin et
        al. 2017, arXiv:1708.02002); weights [C] of the classes, used by "weights". Returns a scalar
        tensor.

    >>> round(float(loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.6931
    """
    if multilabel:
        for_positives = weights if balance == "weights" else None
        per_class = F.binary_cross_entropy_with_logits(
            logits, targets, reduction="none", pos_weight=for_positives
        )
        if balance == "focal":
            found = logits.sigmoid()
            per_class = per_class * (targets - found).abs() ** FOCUS
        return per_class.mean(dim=1).mean()
    log_probabilities = logits.log_softmax(dim=1)
    per_class = -targets * log_probabilities
    if balance == "weights":
        per_class = per_class * weights
    if balance == "focal":
        per_class = per_class * (1 - log_probabilities.exp()) ** FOCUS
    return per_class.sum(dim=1).mean()


def logits(targets, multilabel=False):
    """Logits [B, C] whose probabilities are the targets [B, C], distributions or each in [0, 1].

    >>> wanted = torch.tensor([[0.75, 0.25]])
    >>> round(float(loss(logits(wanted), wanted)), 4)  # the entropy of the target
    0.5623
    """
    return targets.logit(1e-7) if multilabel else targets.clamp(min=1e-7).log()


def class_weights(targets, multilabel=False):
    """Weights [C] that make every class count alike: inversely to its share of the training clips.

    One label: n / (C n_class), scikit-learn's "balanced". Several: negatives over positives, for
    the positives. Classes without a clip get 0. Args: targets [n, C] of the training clips.

    >>> class_weights(torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])).tolist()
    [0.6666666865348816, 2.0]
    """
    counts = targets.sum(dim=0)
    negatives = (len(targets) - counts).clamp(min=1)
    share = negatives / counts if multilabel else len(targets) / (targets.shape[1] * counts)
    return torch.where(counts > 0, share, 0.0)


def sampling_weights(targets):
    """How likely each clip is to be drawn so that classes come alike: by its rarest class; float64
    [n], sum 1.

    Args: targets [n, C] of the training clips; a clip without a label counts as a class of its own.
    """
    targets = torch.cat(
        [targets, (targets.sum(dim=1, keepdim=True) == 0).to(targets)], dim=1
    ).double()
    counts = targets.sum(dim=0).clamp(min=1)
    rarest = torch.where(targets > 0, 1 / counts, 0.0).amax(dim=1)
    return rarest / rarest.sum()
