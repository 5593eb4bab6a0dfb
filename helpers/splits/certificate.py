"""The split certificate: that no group crosses the folds, how each was formed; and its proof from
the files alone.

``python -m helpers verify --run demo`` (or ``make verify RUN=demo``) proves it again at any time.
"""

from pathlib import Path

import pandas as pd

from helpers.base import artifacts, errors, targets
from helpers.splits import name_groups, partition


def state(clips, how, how_groups, formed=None, proposals=None):
    """What split_certificate.json says: that no group crosses the folds, and which lie in train and
    test.

    Args: clips table with group, fold, split, label, recording_id; how the folds and the groups
        came about, in words; formed table of `ties`, or None; proposals of `name_groups`, or None.
        Raises SplitError if a group crosses.
    """
    train = clips[clips["split"].eq("train")]
    partition.refuse_crossings(train, "the folds")
    shared = set(train["group"]) & set(clips.loc[clips["split"].eq("test"), "group"])
    sizes = train.groupby("group")["recording_id"].nunique()
    return {
        "crossings": 0,
        "folds": {str(fold): _fold_counts(part) for fold, part in train.groupby("fold")},
        "how_folds": how,
        "how_groups": how_groups,
        "name_groups": [] if proposals is None else _evidence(proposals),
        "n_groups": int(sizes.size),
        "largest_group_recordings": int(sizes.max()),
        "groups": {
            group: sorted(part["recording_id"].unique()) for group, part in train.groupby("group")
        },
        "formed_by": {} if formed is None else _formed_by(clips, formed),
        "groups_also_in_test": sorted(shared),
    }


def _evidence(proposals):
    """Proposals as JSON holds them: rounded, None where nothing was heard."""
    return proposals.round(4).astype(object).where(proposals.notna(), None).to_dict("records")


def _formed_by(clips, formed):
    """Of each group of several recordings, what binds them."""
    group = clips.drop_duplicates("recording_id").set_index("recording_id")["group"]
    binding = formed[formed["tie"].duplicated(keep=False)]
    binding = binding.assign(group=binding["recording_id"].map(group)).dropna(subset="group")
    return {name: sorted(part["tie"].unique()) for name, part in binding.groupby("group")}


def how_grouped(recordings, pairs=None, proposals=None):
    """In words, how the groups were formed: said in the certificate and in the report.

    Args: recordings with source and together, as they were found; pairs of `duplicates.find`, or
        None; proposals of `name_groups.propose`, or None.
    """
    proposed = "" if proposals is None else name_groups.used(proposals)
    named = bool(recordings["source"].ne("").any()) and not proposed
    keys = {
        tie.partition("=")[0]
        for row in recordings.get("together", [])
        for tie in targets.split(row)
    }
    said = (
        [f"recordings with the same {proposed} ({name_groups.in_words(proposals.iloc[0])})"]
        if proposed
        else []
    )
    said += ["recordings of one source (told by the file name)"] * named
    said += [f"recordings with the same {' or '.join(sorted(keys))} (told by the table)"] * bool(
        keys
    )
    said += ["recordings with the same samples"]
    said += ["recordings of the same sound"] * (pairs is not None)
    if proposed or named or keys:
        return f"{', '.join(said)}, united"
    hint = "" if proposals is None else name_groups.left_out(proposals)
    return (
        f"nothing tells who was recorded together, so each recording counts as its own source; {', '.join(said)} are "
        f"united. Where several recordings come from one source, the scores are too good (see data.name_pattern){hint}"
    )


def _fold_counts(part):
    return {
        "recordings": int(part["recording_id"].nunique()),
        "clips": len(part),
        "groups": int(part["group"].nunique()),
        "labels": {
            label: int(n) for label, n in part.groupby("label")["recording_id"].nunique().items()
        },
    }


def verify(folder, files=("clips.csv", "augmented.csv", "waveforms.csv", "features.csv")):
    """Everything in a run's files that contradicts its certificate, in words; an empty list where
    it holds.

    The ties are gathered anew from recordings.csv and duplicates.csv, and followed through clips,
    augmented copies and packed waveforms, as far as these files are there. Raises StageError where
    the run has no certificate yet.
    """
    folder = Path(folder)
    if not (folder / "split_certificate.json").is_file():
        raise errors.StageError(
            f"{folder} has no split_certificate.json yet: run 02_clean.ipynb, or `make run-all`."
        )
    for name in ("recordings.csv", "duplicates.csv", "clips.csv"):
        artifacts.require(
            (folder / name).is_file(), f"{folder} has no {name}: run 02_clean.ipynb again."
        )
    stated = artifacts.read_json(folder / "split_certificate.json")
    clips, recordings = (
        artifacts.read_table(folder / name) for name in ("clips.csv", "recordings.csv")
    )
    train = (
        clips[clips["split"].eq("train")].drop_duplicates("recording_id").set_index("recording_id")
    )
    recordings = recordings[recordings["recording_id"].isin(clips["recording_id"])]
    proposals = pd.DataFrame(stated.get("name_groups", []), columns=list(name_groups.COLUMNS))
    recordings = name_groups.unite(recordings, name_groups.used(proposals))
    formed = partition.ties(recordings, artifacts.read_table(folder / "duplicates.csv"))
    places = formed[formed["recording_id"].isin(train.index)]
    places = places.assign(fold=places["recording_id"].map(train["fold"]))
    found = [
        f"{tie} lies in folds {_listed(part['fold'])}"
        for tie, part in places.groupby("tie")
        if part["fold"].nunique() > 1
    ]
    for name in files:
        if (folder / name).is_file():
            found += _crossings(artifacts.read_table(folder / name), clips, train, name)
    numbers = {group: set(members) for group, members in stated["groups"].items()}
    actual = {group: set(part.index) for group, part in train.groupby("group")}
    found += [
        f"group {group}: the certificate names other recordings"
        for group in numbers
        if numbers[group] != actual.get(group)
    ]
    found += [
        f"group {group} is not in the certificate" for group in actual.keys() - numbers.keys()
    ]
    if not found:
        anew = state(clips, stated["how_folds"], stated["how_groups"], formed, proposals)
        found += [
            f"the certificate states another {key}" for key in anew if anew[key] != stated.get(key)
        ]
    return found + (
        [f"the certificate states {stated['crossings']} crossings"] if stated["crossings"] else []
    )


def _crossings(table, clips, train, name):
    """Groups, recordings and copies that do not lie where the clips' recordings do."""
    table = table[table["split"].eq("train")] if "split" in table else table
    known = train.reindex(table["recording_id"])
    elsewhere = table["fold"].fillna(0).to_numpy() != known["fold"].fillna(-1).to_numpy()
    found = [
        f"{name}: {clip} is not in the fold of its recording"
        for clip in table.loc[elsewhere, "clip_id"]
    ]
    crossing = table.groupby("group")["fold"].nunique()
    found += [f"{name}: group {group} crosses the folds" for group in crossing.index[crossing > 1]]
    if "parent_id" not in table:
        return found
    copies = table[table["parent_id"].ne("")]
    orphans = copies[~copies["parent_id"].isin(clips.loc[clips["split"].eq("train"), "clip_id"])]
    found += [f"{name}: {clip} is a copy of no training clip" for clip in orphans["clip_id"]]
    parent_fold = (
        clips.set_index("clip_id")["fold"].reindex(copies["parent_id"]).fillna(-1).to_numpy()
    )
    found += [
        f"{name}: {clip} is not in its parent's fold"
        for clip in copies.loc[copies["fold"].fillna(0).to_numpy() != parent_fold, "clip_id"]
    ]
    return found


def _listed(folds):
    return ", ".join(str(fold) for fold in sorted(folds.unique()))
