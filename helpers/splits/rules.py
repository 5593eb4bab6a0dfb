"""Which recordings may be used: the rules, their codes, and what is set aside for which reason."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import features, recording, windowing
from helpers.base import artifacts, errors
from helpers.data import label_table
from helpers.layouts import listing

NOISE_CLIPS = 200  # of train.noise_folder, at most
RULES = ("SILENT", "TOO_SHORT", "DUP_LABEL_CONFLICT", "DUP_SAME_LABEL")  # codes that `judge` gives


def judge(recordings: pd.DataFrame, config, pairs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Apply the quality rules to the surveyed recordings.

    Args: recordings table as in recordings.csv; config; pairs of near duplicates (recording_id,
        other_id), or None.
    Returns a copy whose status is "used", "quarantined" or "ignored", with code and reason. Near
    duplicates that stay carry the flag DUP_NEAR. Raises TooManyBad.
    """
    table = recordings.copy()
    reasons = table["reason"].where(table["status"].eq("quarantined"), "")
    table["code"] = reasons.str.partition(":")[0]
    rules = broken_rules(table["duration_seconds"], table["loudest_db"], config.clean)
    for code, reason, broken in rules:
        _set_aside(table, broken, code, reason)
    others = rivals(table, pairs)
    reasons = "the same sound lies under another label: " + others + "; listen and keep one"
    _set_aside(table, others.ne(""), "DUP_LABEL_CONFLICT", reasons)
    kept = kept_twins(table)
    reasons = "the same samples as " + kept + ", which is kept"
    _set_aside(table, kept.ne(""), "DUP_SAME_LABEL", reasons)
    table.loc[table["status"].eq("ok"), "status"] = "used"
    recording.check_enough(table, config.data.max_bad_fraction)
    return _flag_near(table, pairs)


def broken_rules(duration_seconds, loudest_db, rules) -> list[tuple]:
    """What may be used, and what may not: a list of (code, reason, whether the rule is broken).

    Args: duration_seconds, loudest_db of a recording (the level of its loudest 20 ms), or a Series
        of each; rules the config's Clean section.

    >>> from helpers.base.settings import Clean
    >>> [code for code, _, broken in broken_rules(3.0, -90.0, Clean()) if broken]
    ['SILENT']
    """
    short = f"shorter than {rules.min_seconds:g} s"
    silent = f"never louder than {rules.silence_db:g} dBFS"
    return [
        ("TOO_SHORT", short, duration_seconds < rules.min_seconds),
        ("SILENT", silent, loudest_db < rules.silence_db),
    ]


def require_usable(mono: recording.Mono, rules) -> None:
    """Refuse a recording that 02 would set aside.

    Raises AudioIssue with the rule's code and reason.
    """
    facts = f"it lasts {mono.seconds:.3g} s and reaches {mono.loudest_db:.0f} dBFS"
    for code, reason, broken in broken_rules(mono.seconds, mono.loudest_db, rules):
        if broken:
            raise errors.AudioIssue(code, f"{reason}: {facts}")


def _set_aside(table, broken, code, reasons):
    """Quarantine, in place, the recordings in use that break a rule; reasons a text or a Series."""
    rows = table["status"].eq("ok") & broken.fillna(False).astype(bool)
    reasons = f"{code}: " + pd.Series(reasons, table.index)
    table.loc[rows, "status"] = "quarantined"
    table.loc[rows, "code"] = code
    table.loc[rows, "reason"] = reasons[rows]


def _in_use(table):
    """The training recordings that no rule has set aside yet."""
    return table.query("status == 'ok' and split == 'train'")


def rivals(table: pd.DataFrame, pairs: pd.DataFrame | None = None) -> pd.Series:
    """Paths of training recordings with the same sound under another label: a Series of text.

    Args: table of surveyed recordings; pairs of near duplicates, or None: then only the same
        samples count. "" stands where there is none.
    """
    rows = _in_use(table)[["recording_id", "path", "label", "pcm_sha256"]]
    sound = rows["pcm_sha256"].where(rows["pcm_sha256"].ne(""), rows["path"])
    rows = rows.assign(sound=sound)
    others = rows[["sound", "path", "label"]].add_prefix("other_")
    alike = _alike(rows, pairs)
    met = rows.merge(alike, on="sound").merge(others, on="other_sound")
    met = met[met["label"].ne(met["other_label"])]
    met = met.sort_values("other_path")
    paths = met.groupby("recording_id")["other_path"].agg(", ".join)
    return table["recording_id"].map(paths).fillna("")


def _alike(rows, pairs):
    """Which sounds are alike, each like itself: a table sound, other_sound."""
    sounds = rows["sound"].unique()
    alike = [pd.DataFrame({"sound": sounds, "other_sound": sounds})]
    if pairs is not None:
        sound_of = rows.set_index("recording_id")["sound"]
        one = pairs["recording_id"].map(sound_of)
        other = pairs["other_id"].map(sound_of)
        alike.append(pd.DataFrame({"sound": one, "other_sound": other}))
        alike.append(pd.DataFrame({"sound": other, "other_sound": one}))
    return pd.concat(alike).dropna().drop_duplicates()


def kept_twins(table: pd.DataFrame) -> pd.Series:
    """Path of the recording with the same samples and label that is kept, the first one.

    Returns a Series of text, "" for all that are no second copy of a training recording.
    """
    train = _in_use(table)
    train = train.query("pcm_sha256 != ''")
    first = train.groupby(["pcm_sha256", "label"])["path"].transform("min")
    return first.where(first.ne(train["path"]), "").reindex(table.index, fill_value="")


def _flag_near(table, pairs):
    """Flag near duplicates of which both are used: they stay together in the split."""
    if pairs is None:
        return table
    used = table.query("status == 'used'")["recording_id"]
    near = pairs[["recording_id", "other_id"]]
    near = near[near.isin(set(used)).all(axis=1)]
    rows = table["recording_id"].isin(near.to_numpy().ravel())
    table.loc[rows, "flags"] = (table.loc[rows, "flags"] + " DUP_NEAR").str.strip()
    return table


def quarantine_table(judged: pd.DataFrame) -> pd.DataFrame:
    """The rows of quarantine.csv: every recording that is set aside, with stage and reason.

    Unreadable files were found in 01, broken rules in 02.
    """
    rows = judged.query("status == 'quarantined'")
    return rows.assign(stage=np.where(rows["code"].isin(RULES), "02_clean", "01_explore"))


def write_clips(used: pd.DataFrame, root, config, folder) -> pd.DataFrame:
    """Clean what is used and cut it into clips, as `windowing.write_clips`.

    Where labels hold for a part of a recording (data.start_column), its clips get those of their
    part, and clips without any teach nothing and are left out. The noise of train.noise_folder lies
    beside them. Args and result as there.
    """
    clips = windowing.write_clips(used, root, config, folder)
    if config.train.noise_folder:
        write_noise(used, Path(root), config, Path(folder, features.NOISE))
    if not config.data.start_column:
        return clips
    return label_table.label_clips(clips, label_table.segments(root, used, config.data))


def write_noise(used: pd.DataFrame, root: Path, config, folder: Path) -> None:
    """Cut the recordings of train.noise_folder into clips, NOISE_CLIPS at most: FLAC files.

    What is learned or tested is no noise, nor is a copy of it. Of many recordings some are taken,
    evenly spread, and as many clips of each; what cannot be read is left out.
    Args: used recordings of both sides; root data folder; config; folder that is written to. Raises
        SourceError where the folder holds recordings that are used, or nothing else.
    """
    place = root / config.train.noise_folder
    inside = [path for path in used["path"] if (root / path).is_relative_to(place)]
    paths = [place / path for path in sorted(listing.walk(place)) if listing.is_sound(path)]
    paths = [path for path in paths if artifacts.content_digest(path) not in set(used["sha256"])]
    if inside or not paths:
        what = f"{inside[0]} is used otherwise" if inside else "there is no other recording in it"
        raise errors.SourceError(f"train.noise_folder is {config.train.noise_folder!r}: {what}.")
    filled = config.but("audio.short_clips", "loop").but("audio.max_clips", None)
    paths = paths[:: -(-len(paths) // NOISE_CLIPS)]
    folder.mkdir()
    for number, path in enumerate(paths):
        with contextlib.suppress(errors.AudioIssue):
            clips = windowing.clips_of(path, filled)[: max(1, NOISE_CLIPS // len(paths))]
            for start, _, clip in clips:
                name = f"{number:03d}-{start:07.2f}.flac"
                recording.write(folder / name, clip, config.audio.sample_rate)


def with_clips(used: pd.DataFrame, clips: pd.DataFrame, data) -> pd.DataFrame:
    """The used recordings of which a label holds for a clip; data the config's Data section."""
    return used[used["recording_id"].isin(clips["recording_id"])] if data.start_column else used
