"""The split certificate: that no group crosses the folds, how each was formed; and its proof.

``python -m helpers verify --run demo`` (or ``make verify RUN=demo``) proves it again at any time,
from the files alone.
"""

from pathlib import Path

import pandas as pd

from helpers.base import artifacts, errors, targets
from helpers.splits import name_groups, partition


def state(
    clips: pd.DataFrame,
    how: str,
    how_groups: str,
    formed: pd.DataFrame | None = None,
    proposals: pd.DataFrame | None = None,
) -> dict:
    """What split_certificate.json says: that no group crosses the folds, and what lies where.

    Args: clips table with group, fold, split, label, recording_id; how the folds and the groups
        came about, in words; formed table of `ties`, or None; proposals of `name_groups`, or None.
        Raises SplitError if a group crosses.
    """
    train = clips.query("split == 'train'")
    partition.refuse_crossings(train, "the folds")
    shared = set(train["group"]) & set(clips.query("split == 'test'")["group"])
    sizes = train.groupby("group")["recording_id"].nunique()
    unlabelled = clips.query("split == 'unlabelled'").drop_duplicates("recording_id")
    held = {"recordings": len(unlabelled)}
    held["groups_also_in_train"] = sorted(set(train["group"]) & set(unlabelled["group"]))
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
        **({"unlabelled": held} if len(unlabelled) else {}),
    }


def _evidence(proposals):
    """Proposals as JSON holds them: rounded, None where nothing was heard."""
    return proposals.round(4).astype(object).where(proposals.notna(), None).to_dict("records")


def _formed_by(clips, formed):
    """Of each group of several recordings, what binds them."""
    recordings = clips.drop_duplicates("recording_id").set_index("recording_id")
    binding = formed[formed["tie"].duplicated(keep=False)]
    group = binding["recording_id"].map(recordings["group"])
    return {name: sorted(ties.unique()) for name, ties in binding["tie"].groupby(group)}


def how_grouped(
    recordings: pd.DataFrame,
    pairs: pd.DataFrame | None = None,
    proposals: pd.DataFrame | None = None,
) -> str:
    """In words, how the groups were formed: said in the certificate and in the report.

    Args: recordings with source and together, as they were found; pairs of `duplicates.find`, or
        None; proposals of `name_groups.propose`, or None.
    """
    proposed = "" if proposals is None else name_groups.used(proposals)
    told = []
    if proposed:
        evidence = name_groups.in_words(proposals.iloc[0])
        told.append(f"recordings with the same {proposed} ({evidence})")
    elif recordings["source"].ne("").any():
        told.append("recordings of one source (told by the file name)")
    ties = recordings.get("together", pd.Series(dtype=object)).map(targets.split).explode().dropna()
    if keys := sorted(ties.str.split("=").str[0].unique()):
        told.append(f"recordings with the same {' or '.join(keys)} (told by the table)")
    same = ["recordings with the same samples"]
    if pairs is not None:
        same.append("recordings of the same sound")
    if told:
        return f"{', '.join(told + same)}, united"
    hint = "" if proposals is None else name_groups.left_out(proposals)
    return (
        "nothing tells who was recorded together, so each recording counts as its own source; "
        f"{', '.join(same)} are united. Where several recordings come from one source, the scores "
        f"are too good (see data.name_pattern){hint}"
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


def verify(
    folder: str | Path,
    files: tuple[str, ...] = ("clips.csv", "augmented.csv", "waveforms.csv", "features.csv"),
) -> list[str]:
    """Everything in a run's files that contradicts its certificate, in words; [] where it holds.

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
        there = (folder / name).is_file()
        artifacts.require(there, f"{folder} has no {name}: run 02_clean.ipynb again.")
    stated = artifacts.read_json(folder / "split_certificate.json")
    clips = artifacts.read_table(folder / "clips.csv")
    train = clips.query("split == 'train'").drop_duplicates("recording_id")
    train = train.set_index("recording_id")
    proposals = pd.DataFrame(stated.get("name_groups", []), columns=list(name_groups.COLUMNS))
    formed = _formed(folder, clips, proposals)
    wrong = _torn_ties(formed, train)
    for name in files:
        if (folder / name).is_file():
            wrong += _crossings(artifacts.read_table(folder / name), clips, train, name)
    wrong += _other_groups(stated["groups"], train)
    if not wrong:
        anew = state(clips, stated["how_folds"], stated["how_groups"], formed, proposals)
        other = [key for key in anew if anew[key] != stated.get(key)]
        wrong = [f"the certificate states another {key}" for key in other]
    if stated["crossings"]:
        wrong.append(f"the certificate states {stated['crossings']} crossings")
    return wrong


def _formed(folder, clips, proposals):
    """The ties between the recordings that clips were cut from, gathered anew."""
    recordings = artifacts.read_table(folder / "recordings.csv")
    recordings = recordings[recordings["recording_id"].isin(clips["recording_id"])]
    recordings = name_groups.unite(recordings, name_groups.used(proposals))
    return partition.ties(recordings, artifacts.read_table(folder / "duplicates.csv"))


def _torn_ties(formed, train):
    """Ties between training recordings of several folds."""
    places = formed.assign(fold=formed["recording_id"].map(train["fold"])).dropna()
    folds = places.sort_values("fold").groupby("tie")["fold"].unique()
    torn = folds[folds.map(len) > 1]
    return [f"{tie} lies in folds {', '.join(map(str, several))}" for tie, several in torn.items()]


def _other_groups(stated, train):
    """Groups of which the certificate names other recordings, or none."""
    actual = {group: set(part.index) for group, part in train.groupby("group")}
    others = [group for group in stated if set(stated[group]) != actual.get(group)]
    return [
        *(f"group {group}: the certificate names other recordings" for group in others),
        *(f"group {group} is not in the certificate" for group in actual.keys() - stated.keys()),
    ]


def _crossings(table, clips, train, name):
    """Groups, recordings and copies that do not lie where the clips' recordings do."""
    wrong = []
    if "split" in table:
        others = table[table["split"].ne("train") & table["fold"].notna()]
        wrong += [f"{clip} has a fold, and is no training clip" for clip in others["clip_id"]]
        table = table.query("split == 'train'")
    lost = _astray(table, "recording_id", train)
    wrong += [f"{clip} is not in the fold of its recording" for clip in lost]
    wrong += [f"group {group} crosses the folds" for group in partition.crossing(table)]
    if "parent_id" in table:
        copies = table.query("parent_id != ''")
        parents = clips.set_index("clip_id")
        in_train = copies["parent_id"].isin(parents.query("split == 'train'").index)
        strays = _astray(copies, "parent_id", parents)
        wrong += [f"{clip} is a copy of no training clip" for clip in copies[~in_train]["clip_id"]]
        wrong += [f"{clip} is not in its parent's fold" for clip in strays]
    return [f"{name}: {what}" for what in wrong]


def _astray(table, key, places):
    """The clips that lie in another fold than what their key names; also where that has none."""
    expected = places["fold"].reindex(table[key]).fillna(-1).to_numpy()
    return table.loc[table["fold"].fillna(0).to_numpy() != expected, "clip_id"]


def in_words(stated: dict) -> str:
    """What a certificate of `state` says, in a line or two."""
    crossings = f"Crossings: {stated['crossings']} of {stated['n_groups']} groups."
    says = f"{crossings} Groups: {stated['how_groups']}."
    shared = len(stated["groups_also_in_test"])
    if shared:
        says += f"\nGroups in train and test: {shared}."
    if held := stated.get("unlabelled"):
        shared = len(held["groups_also_in_train"])
        says += f"\nUnlabelled recordings, in no fold: {held['recordings']}. Groups that hold some"
        says += (
            f" and training recordings: {shared}; none is learned from where its group is tested."
        )
    return says
