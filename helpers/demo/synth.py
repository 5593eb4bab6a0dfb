"""Ten everyday sounds made from their physics, and the rooms, noises and microphones around them.

Every class of the demo set has a neighbour with much the same average spectrum (engine and
helicopter, rain and wind, clock_tick and footsteps, bird and siren): what tells them apart is how
they move in time.
"""

from dataclasses import dataclass

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
SLOPES = {"white": 0, "pink": -3, "brown": -6}  # dB per octave, of those that are plain


@dataclass(frozen=True)
class Take:
    """A stretch of time to be filled with sound, and the chance that fills it."""

    seconds: float
    rate: int  # Hz
    rng: np.random.Generator

    @property
    def time(self):
        """Seconds from the start, [samples]."""
        return _seconds(self.seconds, self.rate)

    def white(self):
        """White noise [samples]."""
        return self.rng.standard_normal(self.time.size)

    def hiss(self, *peaks, slope_db=0.0):
        """Noise [samples] coloured as by `shape`."""
        return shape(self.white(), self.rate, *peaks, slope_db=slope_db)

    def beats(self, rate_hz, jitter):
        """Start times in seconds at about `rate_hz`, each gap off by `jitter` (a fraction).

        There is at least one.
        """
        most = int(self.seconds * rate_hz * 2) + 2
        chance = self.rng.standard_normal(most)
        gaps = (1 + jitter * chance.clip(-2, 2)) / rate_hz
        latest = min(1 / rate_hz, 0.5 * self.seconds)
        first = self.rng.uniform(0.05, 1) * latest
        starts = first + np.cumsum(gaps) - gaps[0]
        return starts[starts < self.seconds - 0.05]

    def strike(self, starts, loudness, kernel):
        """Copies of `kernel` at the start times, added up: [samples]."""
        impulses = np.zeros(self.time.size)
        places = (starts * self.rate).astype(int)
        inside = places < impulses.size
        np.add.at(impulses, places[inside], loudness[inside])
        return fftconvolve(impulses, kernel)[: impulses.size]

    def drift(self, rate_hz):
        """A smooth random curve [samples], about `rate_hz` new values a second, of unit spread."""
        n_samples = self.time.size
        knots = self.rng.standard_normal(int(n_samples * rate_hz / self.rate) + 3)
        position = np.arange(n_samples) * rate_hz / self.rate + self.rng.uniform()
        left = position.astype(int)
        turn = np.pi * (position % 1)
        share = 0.5 - 0.5 * np.cos(turn)
        return knots[left] * (1 - share) + knots[left + 1] * share

    def harmonics(self, pitch_hz, n_harmonics, rolloff):
        """Sines at the multiples k of a moving pitch [samples], none that would alias.

        Their amplitude is k**-rolloff.
        """
        phase = 2 * np.pi * np.cumsum(pitch_hz) / self.rate
        previous = np.zeros_like(phase)
        current = np.sin(phase)
        twice_cosine = 2 * np.cos(phase)
        total = np.zeros_like(phase)
        for k in range(1, n_harmonics + 1):
            total += current * k**-rolloff * (k * pitch_hz < 0.45 * self.rate)
            following = twice_cosine * current - previous
            previous = current
            current = following
        return total

    def pulses(self, rate_hz, sharpness):
        """Pulses at a moving rate [samples], each dying away over 1 / sharpness of its turn."""
        return np.exp(-sharpness * (np.cumsum(rate_hz) / self.rate % 1))

    def ping(self, hz, seconds, ring_seconds, mode=1):
        """The ringing of a struck thing's mode, a multiple of hz: higher ones die sooner."""
        time = _seconds(seconds, self.rate)
        return np.sin(2 * np.pi * hz * mode * time) * np.exp(-time * mode / ring_seconds)

    def voice(self):
        """One far-off speaker [samples]: a wandering pitch, syllables about four times a second."""
        pitch_hz = self.rng.uniform(90, 220) * 2 ** (0.2 * self.drift(3))
        syllables = np.maximum(self.drift(8), 0)
        throat = self.harmonics(pitch_hz, 12, 1)
        return syllables * shape(throat, self.rate, (500, 1, 1), (1800, 0.7, 0.3))


def draw_source(label, rng):
    """Draw the physics of one source of class `label`: the parameters in RANGES[label]."""
    return {name: float(np.exp(rng.uniform(*np.log(span)))) for name, span in RANGES[label].items()}


def render(label, source, duration_seconds, sample_rate, rng):
    """Render one take of a source.

    Args: label a key of RANGES; source from `draw_source`; duration_seconds > 0; sample_rate in Hz;
        rng draws the timing of this take. Returns float array [samples] of unit RMS.
    Raises KeyError for an unknown label.
    """
    return _of_unit_power(SOUNDS[label](Take(duration_seconds, sample_rate, rng), **source))


def _of_unit_power(sound):
    return sound / np.sqrt(np.mean(sound**2))


def siren(take, *, centre_hz, depth_octaves, sweep_hz, rolloff):
    """A horn whose pitch swings steadily up and down: slowly it wails, fast it yelps."""
    swing = np.sin(2 * np.pi * (sweep_hz * take.time + take.rng.uniform()))
    return take.harmonics(centre_hz * 2 ** (depth_octaves * swing), 8, rolloff)


def bird(take, *, centre_hz, sweep_octaves, chirp_hz, rolloff):
    """Short whistled sweeps in a row, now and then a rest; each chirp bends the same way."""
    starts = take.beats(chirp_hz, 0.15)
    is_sung = take.rng.uniform(size=starts.size) < 0.8
    sung = np.where(is_sung, take.rng.uniform(0.5, 1, starts.size), 0)
    sung[0] = 1
    position = np.linspace(0, 1, int(0.75 / chirp_hz * take.rate))
    envelope = take.strike(starts, sung, np.sin(np.pi * position) ** 2)
    bend = take.strike(starts, np.ones_like(starts), position - 0.5)
    pitch_hz = centre_hz * 2 ** (sweep_octaves * 2 * bend)
    return envelope * take.harmonics(pitch_hz, 4, rolloff)


def bell(take, *, strike_hz, ring_seconds, strikes_per_second):
    """Struck bronze: inharmonic partials (hum, prime, tierce, quint ...), the high ones dying
    first.
    """
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.51, 2.66, 3.01, 4.1])
    weights = np.array([0.5, 1, 0.8, 0.4, 1, 0.5, 0.5, 0.3, 0.3])
    longest = min(take.seconds, 5 * ring_seconds)
    time = _seconds(longest, take.rate)[:, None]
    partials = np.sin(2 * np.pi * strike_hz * ratios * time)
    fading = np.exp(-time * ratios**0.7 / ring_seconds)
    ring = weights * partials * fading
    starts = take.beats(strikes_per_second, 0.1)
    loudness = take.rng.uniform(0.6, 1, starts.size)
    return take.strike(starts, loudness, ring.sum(axis=1))


def clock_tick(take, *, tick_hz, case_hz, ring_seconds):
    """An escapement: a dry click in a small case, dead regular, tick and tock in turn."""
    tick = sum(take.ping(case_hz, 0.15, ring_seconds, mode) for mode in (1, 1.63, 2.71))
    starts = take.beats(tick_hz, 0)
    loudness = np.where(np.arange(starts.size) % 2, 0.75, 1.0)
    return take.strike(starts, loudness, tick)


def footsteps(take, *, step_hz, floor_hz, scuff_hz, scuff):
    """Heel, then sole: a knock on the floor and a soft scuff after it, at a human, uneven pace."""
    heels = take.beats(step_hz, 0.08)
    weight = take.rng.uniform(0.5, 1, heels.size)
    swish = np.sin(np.pi * _seconds(0.2, take.rate) / 0.2) ** 2
    brush = take.hiss((scuff_hz, 1.5, 1))
    brush *= take.strike(heels + 0.09, weight, swish)
    knock = take.ping(floor_hz, 0.2, 0.02)
    heel = take.strike(heels, weight, knock)
    sole = scuff * brush / max(np.abs(brush).max(), 1e-9)
    return heel / np.abs(heel).max() + sole


def dog_bark(take, *, pitch_hz, mouth_hz, barks_per_second, breath):
    """Bursts of a voiced throat through a mouth: the pitch jumps up and falls within each bark."""
    starts = take.beats(barks_per_second, 0.2)
    position = np.linspace(0, 1, int(0.22 * take.rate))
    burst = np.minimum(position / 0.12, 1) * (1 - position) ** 1.2
    loudness = take.rng.uniform(0.6, 1, starts.size)
    envelope = take.strike(starts, loudness, burst)
    voice = take.harmonics(pitch_hz * (0.8 + 0.6 * envelope), 14, 0.8)
    throat = envelope * (voice + breath * take.white())
    mouth = ((mouth_hz, 0.6, 1), (2.2 * mouth_hz, 0.5, 0.5))
    return shape(throat, take.rate, *mouth)


def rain(take, *, surface_hz, drops_per_second, patter, slope_db):
    """Countless drops, each a tiny damped ping on a surface, over the hiss of those far away."""
    n_drops = max(1, take.rng.poisson(drops_per_second * take.seconds))
    loudness = take.rng.exponential(size=n_drops) ** 2
    starts = take.rng.uniform(0, take.seconds, n_drops)
    drop = take.ping(surface_hz, 0.02, 0.003)
    near = take.strike(starts, loudness, drop)
    far = take.hiss((surface_hz, 1.5, 1), slope_db=-slope_db)
    return patter * near / near.std() + far / far.std()


def wind(take, *, hollow_hz, gust_hz, gust_db, slope_db):
    """Turbulence: broad noise that swells and sinks in gusts, brighter while it is strong."""
    level = 10 ** (gust_db * take.drift(gust_hz) / 20)
    hiss = take.hiss(slope_db=-slope_db)
    howl = take.hiss((hollow_hz, 0.8, 1))
    hollow = np.sqrt(level) * howl / howl.std()
    return level * (hiss / hiss.std() + hollow)


def engine(take, *, firing_hz, pipe_hz, roughness, wobble):
    """Cylinders firing into an exhaust pipe: a fast, rough pulse train whose speed wobbles a
    little.
    """
    firing = firing_hz * (1 + wobble * take.drift(2))
    pulses = take.pulses(firing, 6) * (1 + roughness * take.white())
    pipe = ((pipe_hz, 1, 1), (2.7 * pipe_hz, 1, 0.4))
    return shape(pulses - pulses.mean(), take.rate, *pipe, slope_db=-3)


def helicopter(take, *, blade_hz, body_hz, hiss, sharpness):
    """Rotor blades slapping the air: noise in slow, separate thumps over a steady turbine hiss."""
    slap = take.pulses(blade_hz * (1 + 0.01 * take.drift(1)), sharpness)
    chop = shape(slap * take.white(), take.rate, (body_hz, 1, 1), slope_db=-3)
    turbine = take.hiss(slope_db=-3)
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
    take = Take(duration_seconds, sample_rate, rng)
    hiss = take.white()
    if kind in SLOPES:
        sound = shape(hiss, sample_rate, slope_db=SLOPES[kind])
    elif kind == "hum":
        mains = take.harmonics(np.full(hiss.size, rng.choice([50.0, 60.0])), 8, 0.7)
        sound = mains + 0.5 * shape(hiss, sample_rate, slope_db=-3)
    elif kind == "babble":
        sound = sum(take.voice() for _ in range(3))
    else:
        raise ValueError(f"noise kind is {kind!r}; it may be one of {', '.join(NOISES)}")
    return _of_unit_power(sound)


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
    take = Take(sound.size / sample_rate, sample_rate, rng)
    room = {name: scene[name] for name in ("rt60_seconds", "wet")}
    room_rng = np.random.default_rng(scene["room_seed"])
    heard = reverberate(sound, sample_rate, room_rng, **room)
    near = 10 ** (scene["swell_db"] * take.drift(1) / 20)
    far = 10 ** (scene["swell_db"] * take.drift(1) / 20)
    heard = np.sqrt(near) * heard
    background = noise(scene["noise_kind"], take.seconds, sample_rate, rng)
    background = far * background
    equal = np.sqrt(np.mean(heard**2) / np.mean(background**2))
    heard = heard + equal * 10 ** (-snr_db / 20) * background
    bump = (scene["bump_hz"], 0.7, scene["bump"])
    return shape(heard, sample_rate, bump, slope_db=scene["tilt_db"], floor=1)


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


def shape(sound, sample_rate, *peaks, slope_db=0.0, floor=0.0):
    """Colour a sound [samples]: `slope_db` per octave, then resonances.

    Args: peaks (centre_hz, width_octaves, gain) each; away from them, `floor` is what passes.
    Returns a new array [samples].
    """
    n_fft = next_fast_len(sound.size, real=True)
    octaves = np.log2(np.maximum(rfftfreq(n_fft, 1 / sample_rate), 30.0))
    gain = 10 ** (slope_db * (octaves - np.log2(1000)) / 20)
    if peaks:
        gain *= floor + sum(
            g * np.exp(-(((octaves - np.log2(hz)) / width) ** 2)) for hz, width, g in peaks
        )
    return irfft(rfft(sound, n_fft) * gain, n_fft)[: sound.size]


def _seconds(duration_seconds, sample_rate):
    return np.arange(round(duration_seconds * sample_rate)) / sample_rate
