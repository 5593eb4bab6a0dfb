"""What a graph of ONNX tells of itself: what it takes, at which rate, and what its embedding is.

It tells by names, ranks and fixed sizes; what they leave open, settings say. `path` is that of its
file, which every error names.
"""

import math
import re

import numpy as np

from helpers.base import errors

FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
# Rates (Hz) that follow from a fixed number of samples: YAMNet, BirdNET, Perch
RATES = {15600: 16000, 144000: 48000, 160000: 32000}
LOWEST_RATE = 1000  # Hz: below it somebody meant kHz
# Words of the names that outputs have: of embeddings, of pictures of the sound
EMBEDDINGS = {"embedding", "embeddings", "embed", "embeds", "feature", "features", "hidden"}
EMBEDDINGS |= {"pool", "pooled", "pooler", "pooling"}
PICTURES = {"mel", "melspectrogram", "spectrogram", "spectrum"}


def refuse(path, problem):
    """Raise ConfigError: a file cannot be listened with."""
    raise errors.ConfigError(f"features.listener: {path} {problem}")


def waveform_or_picture(session, path):
    """The one input, a waveform or a spectrogram."""
    inputs = session.get_inputs()
    shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
    given = inputs[0]
    rank = len(given.shape)
    fits = len(inputs) == 1 and given.type in FLOATS and 1 <= rank <= 4
    if not fits or (rank > 2 and given.shape[1] != 1):
        refuse(
            path,
            f"takes {shapes}; it should take one input of floats: a waveform, [samples], "
            "[B, samples] or [B, 1, samples], or a log-mel spectrogram in dB, [B, 1, mels, frames] "
            "or [B, 1, frames, mels]",
        )
    return given


def mels_at(given, path) -> int:
    """Which size of a spectrogram is its mel bands: the one that is fixed, of two the smaller."""
    fixed = [place for place in (2, 3) if is_fixed(given.shape[place])]
    if not fixed:
        refuse(path, f"takes {given.name} {given.shape}: its number of mel bands should be fixed")
    return min(fixed, key=lambda place: given.shape[place])


def is_fixed(size) -> bool:
    """Whether a size of an input or output is a number; a free one has a name, or none."""
    return isinstance(size, int)


def rate(session, given, path, asked):
    """The rate in Hz that is asked for, that a file tells, or its number of samples; and in words
    whether it is a guess.
    """
    told = asked or number(session, "sample_rate", path)
    if told and told < LOWEST_RATE:
        refuse(path, f"tells sample_rate={told:g}, no rate in Hz: set features.listener_rate")
    if told:
        return round(told), ""
    size = given.shape[-1]
    if len(given.shape) == 4 or size not in RATES:
        refuse(path, "does not tell at which rate it hears: set features.listener_rate (Hz)")
    guess = f"Its rate is a guess, by its {size} samples: features.listener_rate says another."
    return RATES[size], guess


def number(session, name, path):
    """A number that a file tells as metadata, as networks that Earshot exports do, or None."""
    words = session.get_modelmeta().custom_metadata_map.get(name)
    try:
        number = float(words) if words else None
    except ValueError:
        number = math.nan
    if number is not None and not 0 < number < math.inf:
        refuse(
            path,
            f"tells {name}={words!r}, which is no number: set features.listener_rate, or "
            "features.listener_seconds",
        )
    return number


def embedding(session, asked, path):
    """The output that is the embedding, as asked, the one called so, or the longest; and others."""
    outputs = _vectors(session, path)
    by_name = {one.name: one for one in outputs}
    if asked and asked not in by_name:
        names = ", ".join(by_name)
        refuse(path, f"has no vector {asked!r} (features.listener_output) but {names}")
    chosen = by_name[asked] if asked else _likeliest(outputs)
    return chosen, [one for one in outputs if one is not chosen]


def _vectors(session, path):
    """The outputs that give vectors of floats, of clips or of frames."""
    given = session.get_outputs()
    outputs = [one for one in given if one.type in FLOATS and 1 <= len(one.shape) <= 3]
    if not outputs:
        found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in given)
        refuse(path, f"gives no vector of floats per clip or frame, only {found}")
    return outputs


def _likeliest(outputs):
    """The output that is called an embedding, else the longest of clips."""
    vectors = [one for one in outputs if not PICTURES & _name_parts(one)] or outputs
    called = [one for one in vectors if EMBEDDINGS & _name_parts(one)]
    flat = [one for one in vectors if len(one.shape) == 2]
    return max(called or flat or vectors, key=_length)


def frames_last(output) -> bool:
    """Whether an output is [B, numbers, frames]: the size that is free is that of the frames."""
    shape = output.shape
    return len(shape) == 3 and is_fixed(shape[1]) and not is_fixed(shape[2])


def _name_parts(output):
    return set(re.split("[^a-z]+", output.name.lower()))


def chosen_in_words(output, others):
    """Which output is the embedding, in words, where there were others."""
    if not others:
        return ""
    rest = " or ".join(f"{one.name} ({_length(one) or 'any'})" for one in others)
    return (
        f"Its embedding is its output {output.name}, not {rest}: features.listener_output names "
        "another."
    )


def _length(output):
    return output.shape[-1] if is_fixed(output.shape[-1]) else 0
