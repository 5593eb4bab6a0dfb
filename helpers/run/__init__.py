"""A preset becomes a run.

Notebooks: All: each opens with `begin`.

presets (YAML to a frozen Config), stages (what a notebook reads and writes), journal (run.json),
cautions (what should worry a reader), worth (what cleaning steps and ingredients of the recipe are
worth), report, pipeline, cli.
"""

from helpers.data import folders
from helpers.run import journal, presets, stages


def begin(
    name: str,
    preset: str | None = None,
    data=None,
    run: str | None = None,
    seed: int | None = None,
    fast: bool = False,
    settings: str = "",
    knobs: dict | None = None,
) -> stages.Stage:
    """Open a stage: the one door of every notebook.

    Args: name of the stage, such as "02_clean"; run, the folder's name below outputs/; the others
        as `presets.load`.
    Returns a `stages.Stage`: its `config`, the recordings' folder `data` where the stage reads it,
        and `read`, `write`, `make`, `fill`, `account`, `require` and `finish` for its files.
    Raises ConfigError, SourceError, or StageError naming the notebook to run first.
    """
    config = presets.load(preset, data, seed, fast, settings, knobs)
    root = folders.locate(config) if "data" in stages.spec(name).reads else None
    stage = stages.begin(name, config, run, root)
    given = {"preset": preset, "data": data, "seed": seed, "fast": fast, "settings": settings}
    journal.note_given(stage.folder, **given)
    return stage
