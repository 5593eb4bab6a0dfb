"""A sound to see and hear: spectrogram with a cursor, player, and the events that it can be played
from. One component without a build step: `player.js` and `player.css`.
"""

import base64
import hashlib
import json
from pathlib import Path

import streamlit as st

from app import charts, examples

HERE = Path(__file__).parent
PART_SECONDS = 300  # of a longer recording, so much is seen and heard at a time
KILOHERTZ = (0.25, 1, 4, 16)


def show(scored, config):
    """The sound, its spectrogram and its events; of a very long recording a part, which is chosen.

    Args: scored listening.Scored; config of the run.
    """
    rate = config.audio.sample_rate
    last = int((len(scored.waveform) / rate - 1) // PART_SECONDS) * PART_SECONDS
    start = choose_part(last) if last > 0 else 0
    stop = None if start >= last else (start + PART_SECONDS) * rate
    if start not in scored.parts:
        scored.parts[start] = part(scored.waveform[start * rate : stop], config)
    events = scored.heard.events()
    data = {"start": start, **scored.parts[start]}
    data["events"] = listed(events, start, start + data["seconds"])
    component = st.components.v2.component(
        "earshot_player",
        css=(HERE / "player.css").read_text(encoding="utf-8"),
        js=(HERE / "player.js").read_text(encoding="utf-8"),
    )
    digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()
    component(data=data, key=f"player {digest}")
    st.caption(scored.facts)


def choose_part(last):
    """The second at which the part begins that is to be seen and heard."""
    starts = range(0, last + 1, PART_SECONDS)
    return st.select_slider("Part to see and hear", starts, format_func=charts.moment, key="part")


def part(waveform, config):
    """What the component shows of a waveform: picture and sound as base64, seconds, the axes."""
    import torch

    from helpers.audio import features, recording

    rate = config.audio.sample_rate
    seconds = len(waveform) / rate
    with torch.inference_mode():
        levels = features.shared_log_mel(config)(torch.from_numpy(waveform.copy())[None])[0]
    return {
        "picture": base64.b64encode(examples.coloured(levels.numpy())).decode(),
        "sound": base64.b64encode(recording.encode_mp3(waveform, rate)).decode(),
        "seconds": seconds,
        "ticks": charts.ticks(seconds),
        "kilohertz": kilohertz(config.features, rate),
    }


def kilohertz(settings, rate):
    """Round frequencies on the mel axis: a list of (name, height from 0 to 1)."""
    import librosa

    low, high = librosa.hz_to_mel([settings.f_min, settings.f_max or rate / 2])
    places = [(librosa.hz_to_mel(1000 * khz) - low) / (high - low) for khz in KILOHERTZ]
    named = zip(KILOHERTZ, places, strict=True)
    return [(f"{khz:g}", float(place)) for khz, place in named if 0 < place < 0.95]


def listed(events, start, stop):
    """The events of a part: a dict per event with onset, offset (seconds), when, label, share."""
    inside = events[(events["onset"] < stop) & (events["offset"] > start)]
    return [
        {
            "onset": event.onset,
            "offset": event.offset,
            "when": charts.moment(event.onset),
            "label": str(event.label),
            "share": f"{event.probability:.0%}",
        }
        for event in inside.itertuples()
    ]
