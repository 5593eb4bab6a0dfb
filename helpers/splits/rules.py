"""Which recordings may be used: the rules, their codes, and what is set aside for which reason."""

import numpy as np
import pandas as pd

from helpers.audio import recording
from helpers.base import errors, targets

RULES = ("SILENT", "TOO_SHORT", "DUP_LABEL_CONFLICT", "DUP_SAME_LABEL")  # codes that `judge` gives


def judge(recordings, config, pairs=None):
    """Apply the quality rules to the surveyed recordings.

    Args: recordings table as in recordings.csv; config; pairs of near duplicates (recording_id,
        other_id), or None.
    Returns a copy whose status is "used", "quarantined" or "ignored", with code and reason. Near
    duplicates that stay carry the flag DUP_NEAR. Raises TooManyBad.
    """
    table = recordings.copy()
    table["code"] = (
        table["reason"].where(table["status"].eq("quarantined"), "").str.partition(":")[0]
    )
    judged = broken_rules(table["duration_seconds"], table["loudest_db"], config.clean)
    for code, reason, broken in judged:
        _set_aside(table, broken, code, reason)
    others = rivals(table, pairs)
    reasons = "the same sound lies under another label: " + others + "; listen and keep one"
    _set_aside(table, others.ne(""), "DUP_LABEL_CONFLICT", reasons)
    kept = kept_twins(table)
    _set_aside(
        table, kept.ne(""), "DUP_SAME_LABEL", "the same samples as " + kept + ", which is kept"
    )
    table.loc[table["status"].eq("ok"), "status"] = "used"
    check_enough(table, config.data.max_bad_fraction)
    return _flag_near(table, pairs)


def broken_rules(duration_seconds, loudest_db, rules):
    """What may be used, and what may not: a list of (code, reason, whether the rule is broken).

    Args: duration_seconds, loudest_db of a recording (the level of its loudest 20 ms), or a Series
        of each; rules the config's Clean section.

    >>> from helpers.base.settings import Clean
    >>> [code for code, _, broken in broken_rules(3.0, -90.0, Clean()) if broken]
    ['SILENT']
    """
    short, silent = duration_seconds < rules.min_seconds, loudest_db < rules.silence_db
    return [
        ("TOO_SHORT", f"shorter than {rules.min_seconds:g} s", short),
        ("SILENT", f"never louder than {rules.silence_db:g} dBFS", silent),
    ]


def require_usable(decoded, rules):
    """Refuse a decoded recording that 02 would set aside.

    Raises AudioIssue with the rule's code and reason.
    """
    seconds = len(decoded.waveform) / decoded.sample_rate
    mono = recording.to_mono(decoded.waveform)[0]
    sound = mono - mono.mean(dtype=np.float64).astype(np.float32)
    loudest_db = recording.level_db(
        recording.frame_levels(sound, decoded.sample_rate).max(keepdims=True)
    )
    facts = f"it lasts {seconds:.3g} s and reaches {loudest_db:.0f} dBFS"
    for code, reason, broken in broken_rules(seconds, loudest_db, rules):
        if broken:
            raise errors.AudioIssue(code, f"{reason}: {facts}")


def _set_aside(table, broken, code, reason):
    rows = table["status"].eq("ok") & broken.fillna(False).astype(bool)
    table.loc[rows, ["status", "code"]] = "quarantined", code
    table.loc[rows, "reason"] = f"{code}: " + (reason if isinstance(reason, str) else reason[rows])


def rivals(table, pairs=None):
    """Paths of the training recordings that hold a training recording's sound under another label,
    "" if none.

    Args: table of surveyed recordings; pairs of near duplicates, or None: then only the same
        samples count.
    Returns a Series of text.
    """
    train = table[table["status"].eq("ok") & table["split"].eq("train")]
    samples = train["pcm_sha256"].where(train["pcm_sha256"].ne(""), train["path"])
    sound = dict(zip(train["recording_id"], samples, strict=True))
    alike, members = {name: {name} for name in sound.values()}, {}
    for row in train.itertuples():
        members.setdefault(sound[row.recording_id], []).append((row.path, row.label))
    for one, other in pairs[["recording_id", "other_id"]].to_numpy() if pairs is not None else ():
        if one in sound and other in sound:
            alike[sound[one]].add(sound[other])
            alike[sound[other]].add(sound[one])
    found = {
        row.recording_id: sorted(
            path
            for name in alike[sound[row.recording_id]]
            for path, label in members[name]
            if label != row.label
        )
        for row in train.itertuples()
    }
    return table["recording_id"].map(lambda identity: ", ".join(found.get(identity, ())))


def kept_twins(table):
    """Path of the training recording with the same samples and label that is kept, the first one;
    "" for all others: a Series of text.
    """
    train = table[
        table["status"].eq("ok") & table["split"].eq("train") & table["pcm_sha256"].ne("")
    ]
    first = train.groupby(["pcm_sha256", "label"])["path"].transform("min")
    return first.where(first.ne(train["path"]), "").reindex(table.index, fill_value="")


def _flag_near(table, pairs):
    """Flag near duplicates of which both are used: they stay together in the split."""
    if pairs is None:
        return table
    used = set(table.loc[table["status"].eq("used"), "recording_id"])
    both = pairs["recording_id"].isin(used) & pairs["other_id"].isin(used)
    near = table["recording_id"].isin(
        [*pairs.loc[both, "recording_id"], *pairs.loc[both, "other_id"]]
    )
    table.loc[near, "flags"] = (table.loc[near, "flags"] + " DUP_NEAR").str.strip()
    return table


def check_enough(table, limit):
    """Stop where more than the share `limit` of recordings is set aside, or fewer than two classes
    are left.

    A second copy of a recording that is kept is no bad recording.
    """
    considered = table["status"].ne("ignored") & ~table["reason"].str.startswith("DUP_SAME_LABEL")
    bad = table["status"].eq("quarantined") & considered
    kept = table.loc[table["split"].eq("train") & table["status"].isin(["ok", "used"]), "label"]
    classes = kept.map(targets.split).explode().nunique()
    if bad.sum() > limit * considered.sum() or classes < 2:
        reasons = table.loc[bad, "reason"].str.partition(":")[0].value_counts().to_string()
        raise errors.TooManyBad(
            f"{bad.sum()} of {considered.sum()} recordings cannot be used, {classes} classes are left "
            f"(data.max_bad_fraction allows {limit:.0%}):\n{reasons}\n"
            "See recordings.csv and quarantine.csv for each file; raise data.max_bad_fraction to go on without them."
        )


def quarantine_table(judged):
    """The rows of quarantine.csv: every recording that is set aside, with its reason."""
    return judged[judged["status"].eq("quarantined")].assign(
        stage=lambda table: stage_of(table["code"])
    )


def stage_of(codes):
    """Which stage found each problem: unreadable files in 01, broken rules in 02."""
    return pd.Series(np.where(codes.isin(RULES), "02_clean", "01_explore"), codes.index)
