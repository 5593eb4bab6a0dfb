"""Ten everyday sounds made from their physics, and the rooms, noises and microphones around them.

Every class of the demo set has a neighbour with much the same average spectrum (engine and
helicopter, rain and wind, clock_tick and footsteps, bird and siren): what tells them apart is how
they move in time.
"""

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import fftconvolve

# The physics of one source: each value is drawn log-uniformly between these two, once per source.
RANGES = {
    "siren": {
        "centre_hz": (800, 1500),
        "depth_octaves": (0.2, 0.6),
        "sweep_hz": (0.4, 4),
        "rolloff": (0.9, 1.6),
    },
    "bird": {
        "centre_hz": (1600, 3200),
        "sweep_octaves": (0.25, 0.8),
        "chirp_hz": (2, 6),
        "rolloff": (1.7, 2.7),
    },
    "bell": {
        "strike_hz": (500, 1400),
        "ring_seconds": (0.6, 1.6),
        "strikes_per_second": (0.7, 1.8),
    },
    "clock_tick": {"tick_hz": (2, 5.5), "case_hz": (900, 2400), "ring_seconds": (0.004, 0.012)},
    "footsteps": {
        "step_hz": (1.4, 2.8),
        "floor_hz": (140, 480),
        "scuff_hz": (700, 1800),
        "scuff": (0.15, 0.5),
    },
    "dog_bark": {
        "pitch_hz": (300, 580),
        "mouth_hz": (750, 1250),
        "barks_per_second": (1.4, 3),
        "breath": (0.1, 0.4),
    },
    "rain": {
        "surface_hz": (1100, 3000),
        "drops_per_second": (70, 800),
        "patter": (0.5, 1.6),
        "slope_db": (1.5, 4),
    },
    "wind": {
        "hollow_hz": (350, 1200),
        "gust_hz": (0.4, 1.6),
        "gust_db": (4, 8),
        "slope_db": (2.5, 5),
    },
    "engine": {
        "firing_hz": (25, 65),
        "pipe_hz": (200, 550),
        "roughness": (0.25, 0.6),
        "wobble": (0.01, 0.04),
    },
    "helicopter": {
        "blade_hz": (9, 18),
        "body_hz": (170, 580),
        "hiss": (0.15, 0.5),
        "sharpness": (3, 7),
    },
}
NOISES = {
    "white": 0.1,
    "pink": 0.3,
    "brown": 0.1,
    "hum": 0.25,
    "babble": 0.25,
}  # and how often each is met


def draw_source(label, rng):
    """Draw the physics of one source of class `label`: the parameters in RANGES[label]."""
    return {name: float(np.exp(rng.uniform(*np.log(span)))) for name, span in RANGES[label].items()}


def render(label, source, duration_seconds, sample_rate, rng):
    """Render one take of a source.

    Args: label a key of RANGES; source from `draw_source`; duration_seconds > 0; sample_rate in Hz;
        rng draws the timing of this take. Returns float array [samples] of unit RMS.
    Raises KeyError for an unknown label.
    """
    sound = SOUNDS[label](duration_seconds, sample_rate, rng, **source)
    return sound / np.sqrt(np.mean(sound**2))


def siren(duration_seconds, sample_rate, rng, *, centre_hz, depth_octaves, sweep_hz, rolloff):
    """A horn whose pitch swings steadily up and down: slowly it wails, fast it yelps."""
    swing = np.sin(2 * np.pi * (sweep_hz * _seconds(duration_seconds, sample_rate) + rng.uniform()))
    pitch_hz = centre_hz * 2 ** (depth_octaves * swing)
    return _harmonics(pitch_hz, 8, rolloff, sample_rate)


def bird(duration_seconds, sample_rate, rng, *, centre_hz, sweep_octaves, chirp_hz, rolloff):
    """Short whistled sweeps in a row, now and then a rest; each chirp bends the same way."""
    starts = _beats(duration_seconds, chirp_hz, 0.15, rng)
    sung = np.where(rng.uniform(size=starts.size) < 0.8, rng.uniform(0.5, 1, starts.size), 0)
    sung[0] = 1
    position = np.linspace(0, 1, int(0.75 / chirp_hz * sample_rate))
    n_samples = _seconds(duration_seconds, sample_rate).size
    envelope = _strike(starts, sung, np.sin(np.pi * position) ** 2, n_samples, sample_rate)
    bend = _strike(starts, np.ones_like(starts), position - 0.5, n_samples, sample_rate)
    return envelope * _harmonics(
        centre_hz * 2 ** (sweep_octaves * 2 * bend), 4, rolloff, sample_rate
    )


def bell(duration_seconds, sample_rate, rng, *, strike_hz, ring_seconds, strikes_per_second):
    """Struck bronze: inharmonic partials (hum, prime, tierce, quint ...), the high ones dying
    first.
    """
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.51, 2.66, 3.01, 4.1])
    weights = np.array([0.5, 1, 0.8, 0.4, 1, 0.5, 0.5, 0.3, 0.3])
    time = _seconds(min(duration_seconds, 5 * ring_seconds), sample_rate)[:, None]
    ring = (
        weights
        * np.sin(2 * np.pi * strike_hz * ratios * time)
        * np.exp(-time * ratios**0.7 / ring_seconds)
    )
    starts = _beats(duration_seconds, strikes_per_second, 0.1, rng)
    n_samples = _seconds(duration_seconds, sample_rate).size
    return _strike(
        starts, rng.uniform(0.6, 1, starts.size), ring.sum(axis=1), n_samples, sample_rate
    )


def clock_tick(duration_seconds, sample_rate, rng, *, tick_hz, case_hz, ring_seconds):
    """An escapement: a dry click in a small case, dead regular, tick and tock in turn."""
    time = _seconds(0.15, sample_rate)
    modes = (1, 1.63, 2.71)
    tick = sum(
        np.sin(2 * np.pi * case_hz * mode * time) * np.exp(-time * mode / ring_seconds)
        for mode in modes
    )
    starts = _beats(duration_seconds, tick_hz, 0, rng)
    loudness = np.where(np.arange(starts.size) % 2, 0.75, 1.0)
    return _strike(
        starts, loudness, tick, _seconds(duration_seconds, sample_rate).size, sample_rate
    )


def footsteps(duration_seconds, sample_rate, rng, *, step_hz, floor_hz, scuff_hz, scuff):
    """Heel, then sole: a knock on the floor and a soft scuff after it, at a human, uneven pace."""
    time = _seconds(0.2, sample_rate)
    ring = np.sin(2 * np.pi * floor_hz * time)
    knock = ring * np.exp(-time / 0.02)
    n_samples = _seconds(duration_seconds, sample_rate).size
    heels = _beats(duration_seconds, step_hz, 0.08, rng)
    weight = rng.uniform(0.5, 1, heels.size)
    brush = shape(rng.standard_normal(n_samples), sample_rate, peaks=[(scuff_hz, 1.5, 1)])
    swish = np.sin(np.pi * time / 0.2) ** 2
    brush *= _strike(heels + 0.09, weight, swish, n_samples, sample_rate)
    heel = _strike(heels, weight, knock, n_samples, sample_rate)
    sole = scuff * brush / max(np.abs(brush).max(), 1e-9)
    return heel / np.abs(heel).max() + sole


def dog_bark(duration_seconds, sample_rate, rng, *, pitch_hz, mouth_hz, barks_per_second, breath):
    """Bursts of a voiced throat through a mouth: the pitch jumps up and falls within each bark."""
    starts = _beats(duration_seconds, barks_per_second, 0.2, rng)
    position = np.linspace(0, 1, int(0.22 * sample_rate))
    burst = np.minimum(position / 0.12, 1) * (1 - position) ** 1.2
    n_samples = _seconds(duration_seconds, sample_rate).size
    loudness = rng.uniform(0.6, 1, starts.size)
    envelope = _strike(starts, loudness, burst, n_samples, sample_rate)
    pitch_hz = pitch_hz * (0.8 + 0.6 * envelope)
    voice = _harmonics(pitch_hz, 14, 0.8, sample_rate)
    throat = envelope * (voice + breath * rng.standard_normal(n_samples))
    return shape(throat, sample_rate, peaks=[(mouth_hz, 0.6, 1), (2.2 * mouth_hz, 0.5, 0.5)])


def rain(duration_seconds, sample_rate, rng, *, surface_hz, drops_per_second, patter, slope_db):
    """Countless drops, each a tiny damped ping on a surface, over the hiss of those far away."""
    n_samples = _seconds(duration_seconds, sample_rate).size
    n_drops = max(1, rng.poisson(drops_per_second * duration_seconds))
    time = _seconds(0.02, sample_rate)
    ping = np.sin(2 * np.pi * surface_hz * time) * np.exp(-time / 0.003)
    loudness = rng.exponential(size=n_drops) ** 2
    near = _strike(
        rng.uniform(0, duration_seconds, n_drops), loudness, ping, n_samples, sample_rate
    )
    far = shape(
        rng.standard_normal(n_samples),
        sample_rate,
        slope_db=-slope_db,
        peaks=[(surface_hz, 1.5, 1)],
    )
    return patter * near / near.std() + far / far.std()


def wind(duration_seconds, sample_rate, rng, *, hollow_hz, gust_hz, gust_db, slope_db):
    """Turbulence: broad noise that swells and sinks in gusts, brighter while it is strong."""
    n_samples = _seconds(duration_seconds, sample_rate).size
    gust = _drift(n_samples, gust_hz, sample_rate, rng)
    hiss = shape(rng.standard_normal(n_samples), sample_rate, slope_db=-slope_db)
    howl = shape(rng.standard_normal(n_samples), sample_rate, peaks=[(hollow_hz, 0.8, 1)])
    level = 10 ** (gust_db * gust / 20)
    hollow = np.sqrt(level) * howl / howl.std()
    return level * (hiss / hiss.std() + hollow)


def engine(duration_seconds, sample_rate, rng, *, firing_hz, pipe_hz, roughness, wobble):
    """Cylinders firing into an exhaust pipe: a fast, rough pulse train whose speed wobbles a
    little.
    """
    n_samples = _seconds(duration_seconds, sample_rate).size
    firing = firing_hz * (1 + wobble * _drift(n_samples, 2, sample_rate, rng))
    pulses = _pulses(firing, 6, sample_rate) * (1 + roughness * rng.standard_normal(n_samples))
    return shape(
        pulses - pulses.mean(),
        sample_rate,
        slope_db=-3,
        peaks=[(pipe_hz, 1, 1), (2.7 * pipe_hz, 1, 0.4)],
    )


def helicopter(duration_seconds, sample_rate, rng, *, blade_hz, body_hz, hiss, sharpness):
    """Rotor blades slapping the air: noise in slow, separate thumps over a steady turbine hiss."""
    n_samples = _seconds(duration_seconds, sample_rate).size
    slap = _pulses(
        blade_hz * (1 + 0.01 * _drift(n_samples, 1, sample_rate, rng)), sharpness, sample_rate
    )
    chop = shape(
        slap * rng.standard_normal(n_samples), sample_rate, slope_db=-3, peaks=[(body_hz, 1, 1)]
    )
    turbine = shape(rng.standard_normal(n_samples), sample_rate, slope_db=-3)
    return chop / chop.std() + hiss * turbine / turbine.std()


SOUNDS = {
    sound.__name__: sound
    for sound in (
        siren,
        bird,
        bell,
        clock_tick,
        footsteps,
        dog_bark,
        rain,
        wind,
        engine,
        helicopter,
    )
}


def noise(kind, duration_seconds, sample_rate, rng):
    """Background of one of the NOISES, [samples] of unit RMS. Raises ValueError for another."""
    n_samples = round(duration_seconds * sample_rate)
    hiss = rng.standard_normal(n_samples)
    if kind in ("white", "pink", "brown"):
        sound = shape(hiss, sample_rate, slope_db={"white": 0, "pink": -3, "brown": -6}[kind])
    elif kind == "hum":
        mains = _harmonics(np.full(n_samples, rng.choice([50.0, 60.0])), 8, 0.7, sample_rate)
        sound = mains + 0.5 * shape(hiss, sample_rate, slope_db=-3)
    elif kind == "babble":
        sound = sum(_voice(n_samples, sample_rate, rng) for _ in range(3))
    else:
        raise ValueError(f"noise kind is {kind!r}; it may be one of {', '.join(NOISES)}")
    return sound / np.sqrt(np.mean(sound**2))


def draw_scene(rng):
    """Draw what surrounds one source, for `place`: its room, its background noise and its
    microphone.
    """
    return {
        "room_seed": int(rng.integers(2**32)),
        "rt60_seconds": rng.uniform(0.2, 1.1),
        "wet": rng.uniform(0.05, 0.6),
        "noise_kind": str(rng.choice(list(NOISES), p=list(NOISES.values()))),
        "swell_db": rng.uniform(1, 9),
        "tilt_db": rng.uniform(-1.5, 1.5),
        "bump_hz": float(np.exp(rng.uniform(*np.log((300, 6000))))),
        "bump": rng.uniform(-0.5, 0.8),
    }


def place(sound, sample_rate, rng, scene, snr_db):
    """Put a sound [samples] into a scene from `draw_scene`, over background noise `snr_db` weaker
    than it.

    Both come and go at random, by `swell_db`, as things do when one moves about. The microphone
    tilts it all by `tilt_db` per octave and scales what lies around `bump_hz` by 1 + bump. Returns
    float array [samples].
    """
    room_rng = np.random.default_rng(scene["room_seed"])
    heard = reverberate(
        sound, sample_rate, room_rng, rt60_seconds=scene["rt60_seconds"], wet=scene["wet"]
    )
    near, swell = (
        10 ** (scene["swell_db"] * _drift(sound.size, 1, sample_rate, rng) / 20) for _ in range(2)
    )
    heard = np.sqrt(near) * heard
    background = swell * noise(scene["noise_kind"], sound.size / sample_rate, sample_rate, rng)
    heard = (
        heard
        + np.sqrt(np.mean(heard**2) / np.mean(background**2)) * 10 ** (-snr_db / 20) * background
    )
    bump = (scene["bump_hz"], 0.7, scene["bump"])
    return shape(heard, sample_rate, slope_db=scene["tilt_db"], peaks=[bump], floor=1)


def fades(n_samples, sample_rate, fade_seconds=0.01):
    """A gain [samples] that rises from 0 at the start and sinks to 0 at the end, so that no file
    clicks.
    """
    ramp = np.sin(np.linspace(0, np.pi / 2, int(fade_seconds * sample_rate))) ** 2
    return np.concatenate([ramp, np.ones(n_samples - 2 * ramp.size), ramp[::-1]])


def reverberate(sound, sample_rate, rng, *, rt60_seconds, wet):
    """Put a sound [samples] into a room that takes `rt60_seconds` to fall by 60 dB.

    The room is decaying noise drawn from rng (Moorer 1979, "About this reverberation business");
    `wet` in
    [0, 1] is its share.
    """
    time = _seconds(rt60_seconds, sample_rate)
    tail = rng.standard_normal(time.size) * 10 ** (-3 * time / rt60_seconds)
    echo = fftconvolve(sound, tail / np.sqrt(np.sum(tail**2)))[: sound.size]
    return (1 - wet) * sound + wet * echo


def shape(sound, sample_rate, *, slope_db=0.0, peaks=(), floor=0.0):
    """Colour a sound [samples]: `slope_db` per octave, then resonances.

    Args: peaks (centre_hz, width_octaves, gain) each; away from them, `floor` is what passes.
    Returns a new array [samples].
    """
    n_fft = next_fast_len(sound.size, real=True)
    octaves = np.log2(np.maximum(rfftfreq(n_fft, 1 / sample_rate), 30.0))
    gain = 10 ** (slope_db * (octaves - np.log2(1000)) / 20)
    if len(peaks):
        gain *= floor + sum(
            g * np.exp(-(((octaves - np.log2(hz)) / width) ** 2)) for hz, width, g in peaks
        )
    return irfft(rfft(sound, n_fft) * gain, n_fft)[: sound.size]


def _seconds(duration_seconds, sample_rate):
    return np.arange(round(duration_seconds * sample_rate)) / sample_rate


def _beats(duration_seconds, rate_hz, jitter, rng):
    """Start times in seconds at about `rate_hz`, each gap off by `jitter` (a fraction); at least
    one.
    """
    gaps = (
        1 + jitter * rng.standard_normal(int(duration_seconds * rate_hz * 2) + 2).clip(-2, 2)
    ) / rate_hz
    first = rng.uniform(0.05, 1) * min(1 / rate_hz, 0.5 * duration_seconds)
    starts = first + np.cumsum(gaps) - gaps[0]
    return starts[starts < duration_seconds - 0.05]


def _strike(starts, loudness, kernel, n_samples, sample_rate):
    """Copies of `kernel` at the start times, added up: [n_samples]."""
    impulses = np.zeros(n_samples)
    inside = (starts * sample_rate).astype(int) < n_samples
    np.add.at(impulses, (starts[inside] * sample_rate).astype(int), loudness[inside])
    return fftconvolve(impulses, kernel)[:n_samples]


def _harmonics(pitch_hz, n_harmonics, rolloff, sample_rate):
    """Sines at the multiples k of a moving pitch [samples], amplitude k**-rolloff, none that would
    alias.
    """
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    previous = np.zeros_like(phase)
    current = np.sin(phase)
    twice_cosine = 2 * np.cos(phase)
    total = np.zeros_like(phase)
    for k in range(1, n_harmonics + 1):
        total += current * k**-rolloff * (k * pitch_hz < 0.45 * sample_rate)
        following = twice_cosine * current - previous
        previous = current
        current = following
    return total


def _pulses(rate_hz, sharpness, sample_rate):
    """Pulses at a moving rate [samples], each dying away over 1 / sharpness of its turn."""
    return np.exp(-sharpness * (np.cumsum(rate_hz) / sample_rate % 1))


def _drift(n_samples, rate_hz, sample_rate, rng):
    """A smooth random curve [n_samples], about `rate_hz` new values a second, of unit spread."""
    n_knots = int(n_samples * rate_hz / sample_rate) + 3
    knots = rng.standard_normal(n_knots)
    position = np.arange(n_samples) * rate_hz / sample_rate + rng.uniform()
    left = position.astype(int)
    turn = np.pi * (position % 1)
    share = 0.5 - 0.5 * np.cos(turn)
    return knots[left] * (1 - share) + knots[left + 1] * share


def _voice(n_samples, sample_rate, rng):
    """One far-off speaker [n_samples]: a wandering pitch, syllables about four times a second."""
    pitch_hz = rng.uniform(90, 220) * 2 ** (0.2 * _drift(n_samples, 3, sample_rate, rng))
    syllables = np.maximum(_drift(n_samples, 8, sample_rate, rng), 0)
    return syllables * shape(
        _harmonics(pitch_hz, 12, 1, sample_rate), sample_rate, peaks=[(500, 1, 1), (1800, 0.7, 0.3)]
    )
