"""Learning curves in words: how to read them, and whether training ended too early."""

import numpy as np
import pandas as pd

# Of what can be learned. The demo ends at 0.70; 2 000 words of half a second ended at 0.63 after 24
# epochs (3.7 % wrong on new speakers) and at 0.69 after 48 (1.7 %).
ENOUGH = 2 / 3
RISE = 0.03  # of that share, in half of the epochs: a network that rises less learns no more
JUDGED = 8  # epochs, of which a curve can be called flat


def in_words(history: pd.DataFrame, settings) -> str:
    """How to read learning curves. Args: history its records; settings its Train section."""
    if "validation_loss" in history:
        best = "lowest validation loss" if settings.monitor == "loss" else "best validation score"
        says = f"Of each network the epoch with the {best} is kept. Validation loss should fall and"
        says += " level off: if it rises while training loss falls, the network learns by heart;"
        says += " if it still falls, train longer."
    else:
        says = "No fold chooses an epoch: the last one is kept. The training curve should have"
        says += " flattened by the end; if it still falls, train longer."
    if altered := _altered(settings):
        says += f" The training curve is that of altered clips ({', '.join(altered)}), which are"
        says += " harder than clips as they are, so it looks worse than the network is."
    if "held_out_loss" in history:
        says += " Now and then the fold that is tested is scored for show, and so are as many"
        says += " training clips as they are: nothing follows from these scores. The distance"
        says += " between the two curves is what was learned of these recordings and does not carry"
        says += " over to others. If the loss of the tested fold rises while that of the training"
        says += " clips falls, the network overfits."
    return says


def _altered(settings):
    """What training does to the clips and their labels, in words."""
    picture = settings.inputs == "images"
    on = {
        "moved": not picture and (settings.shift or settings.speed or settings.crop < 1),
        "louder or softer": not picture and settings.gain_db,
        "with noise": not picture and settings.noise_db is not None,
        "turned": picture and (settings.flip or settings.rotate or settings.zoom),
        "mixed": settings.mix != "none" and settings.mix_share,
        "filtered": not picture and settings.filter_db,
        "masked": settings.masks and settings.mask_fraction,
        "with smoothed labels": settings.label_smoothing,
    }
    return [name for name, is_on in on.items() if is_on]


def still_falling(history, config) -> str:
    """`unfinished` with what to set; "" where training was long enough or is not judged."""
    says = unfinished(history, config)
    epochs = 2 * config.train.epochs
    if not says:
        return ""
    return f'{says} Train longer: SET="train.epochs={epochs}", twice the time of 05.'


def unfinished(history, config) -> str | None:
    """A sentence where training ended while its loss was still falling; "" where it did not.

    More than half of the networks that did all of train.epochs must have ended early. What a limit
    in time or patience ended is not judged, nor is a smoke run, which is short on purpose.

    Args: history records of history.json, or a table of them; config of the run.
    """
    table = pd.DataFrame(history)
    epochs = config.train.epochs
    if config.fast or "learned" not in table:  # a history of before has no such column
        return None
    keys = [key for key in ("fold", "seed") if key in table]
    networks = [network.to_numpy() for _, network in table.groupby(keys)["learned"]]
    whole = [learned for learned in networks if len(learned) == epochs]
    if not whole:
        return None
    if 2 * sum(ended_early(learned) for learned in whole) <= len(whole):
        return ""
    percent = 100 * max(0, np.mean([learned[-1] for learned in whole]))
    return (
        f"The training loss was still falling in the last epoch ({epochs}), {percent:.0f} % of the "
        "way to the lowest that altered clips allow."
    )


def ended_early(learned):
    """Whether a network would have gone on learning, judged by `learned` of its epochs, [epochs].

    It would if it ended below ENOUGH and rose by RISE from the second quarter of the epochs to the
    last. That the loss lies flat at the very end says nothing: the learning rate is 0 there.
    """
    quarter = max(1, len(learned) // 4)
    end = learned[-quarter:].mean()
    flat = len(learned) >= JUDGED and end - learned[quarter : 2 * quarter].mean() < RISE
    return bool(end < ENOUGH and not flat)
