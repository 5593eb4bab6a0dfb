"""What is uploaded to Kaggle: code, the wheels that its image lacks, notebooks, trained networks.

``python -m helpers kaggle --run mine --user name --out folder`` (or ``make kaggle RUN=mine
USER=name``). Each folder of the kit holds the metadata that Kaggle's own command reads:
https://github.com/Kaggle/kaggle-api/blob/main/docs/kernels_metadata.md
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from helpers.base import artifacts
from helpers.base.artifacts import REPOSITORY
from helpers.base.settings import Config
from helpers.data import folders
from helpers.delivery import hidden
from helpers.submission import priors

CODE = (
    *("helpers", "notebooks", "presets", "app/starter", "app/earshot_onnx.py"),
    *("requirements.txt", "pyproject.toml", "README.md", "LICENSE"),
)
NETWORKS = ("fold*/card.json", "fold*/weights.safetensors", "thresholds.json", "digests.json")
# What Kaggle's image lacks, and what those need; soxr as it is there is too new for them.
LACKING = (
    *("audiomentations", "numpy-minmax", "numpy-rms", "python-stretch", "soxr"),
    *("noisereduce", "skops", "av"),
)
PYTHON = "3.12"  # of Kaggle's image
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
USER = "YOUR-KAGGLE-NAME"
QUICKSTART = "00_quickstart"  # the series in one session
INFERENCE = "kaggle_inference"
LONGEST = 50  # characters of a title there
PAGE = """# {title} on Kaggle

What to upload, and in which order. Log in first (`pip install kaggle`, with the token that Kaggle's
settings give you).{placeholder}

```
{commands}
```

{notebooks}
The notebooks find what is attached by what it holds. Wait until a notebook has finished before the
next one is pushed. 05 trains faster on a GPU: `enable_gpu` in its `kernel-metadata.json`.
{attached}{wheels}
To update a data set: `kaggle datasets version -p <folder> --dir-mode zip -m "why"`.
"""


@dataclass(frozen=True)
class Kit:
    """A kit of a run in a folder, for a user of Kaggle.

    attach: what holds the recordings there: a competition's name, or user/name of a data set.
    """

    run: Path  # folder of the run
    folder: Path
    user: str
    attach: str | None = None

    def id(self, *words: str) -> str:
        """The id of a data set or notebook on Kaggle: user and the words of its title."""
        return f"{self.user}/{'-'.join(self.title(*words).lower().split())}"

    def title(self, *words: str) -> str:
        """A title of letters, digits and spaces, of which Kaggle makes the same id."""
        kept = re.sub("[^A-Za-z0-9]+", " ", " ".join(["Earshot", *words]))
        return kept.strip()[:LONGEST].strip()

    @property
    def has_networks(self) -> bool:
        return any(self.run.glob("models/cnn/fold*/weights.safetensors"))

    def write(self, notebooks: list[str]) -> str:
        """Write the kit. Args: names of the notebooks of the series. Returns what to know of it."""
        self._data_set("code", "code")
        for name in CODE:
            _copy(REPOSITORY / name, self.folder / "code" / name)
        self._own_preset()
        problem = wheels(self.folder / "wheels")
        sets = [self._data_set("code", "code")]
        if not problem:
            sets.append(self._data_set("wheels", "wheels"))
        self._notebook(QUICKSTART, sets, [])
        earlier = []
        for name in notebooks:
            self._notebook(name, sets, earlier)
            earlier.append(self.id(self.run.name, name))
        if self.has_networks:
            sets.append(self._data_set("weights", self.run.name, "weights"))
            weights(self.run, self.folder / "weights" / self.run.name)
        self._notebook(INFERENCE, sets, [] if self.has_networks else earlier)
        artifacts.write_text(self.folder / "README.md", self._page(notebooks, problem))
        return problem

    def _data_set(self, folder, *words):
        licences = [{"name": "MIT" if folder == "code" else "other"}]
        about = {"title": self.title(*words), "id": self.id(*words), "licenses": licences}
        artifacts.write_json(self.folder / folder / "dataset-metadata.json", about)
        return about["id"]

    def _own_preset(self):
        preset = Path(str(self._given().get("preset") or ""))
        if preset.suffix in (".yaml", ".yml"):
            _copy(artifacts.home() / preset, self.folder / "code" / "presets" / preset.name)

    def _given(self):
        path = self.run / "run.json"
        return artifacts.read_json(path).get("given", {}) if path.is_file() else {}

    def _notebook(self, name, sets, kernels):
        """A notebook with the run's parameters, and what it is attached to."""
        words = (self.run.name, name)
        folder = self.folder / "notebooks" / name
        text = (REPOSITORY / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        notebook = json.loads(text)
        for cell in notebook["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = filled(cell["source"], self.parameters())
        artifacts.write_json(folder / f"{name}.ipynb", notebook)
        is_set = "/" in (self.attach or "")
        metadata = {
            "id": self.id(*words),
            "title": self.title(*words),
            "code_file": f"{name}.ipynb",
            "language": "python",
            "kernel_type": "notebook",
            "is_private": "true",
            "enable_gpu": "false",
            "enable_internet": "false",
            "dataset_sources": [*sets, *[self.attach] * is_set],
            "competition_sources": [self.attach] if self.attach and not is_set else [],
            "kernel_sources": list(kernels),
        }
        artifacts.write_json(folder / "kernel-metadata.json", metadata)

    def parameters(self) -> dict:
        """What the run was asked for, as parameters of the notebooks there."""
        given = {key: value for key, value in self._given().items() if value}
        if "preset" in given:
            given["preset"] = Path(given["preset"]).stem
        if data := self.attach or given.get("data"):
            given["data"] = f"/kaggle/input/{Path(data).name}"
        return {**given, "run": self.run.name}

    def _page(self, notebooks, problem):
        sets = ["code"] + ["wheels"] * (not problem) + ["weights"] * self.has_networks
        commands = [f"kaggle datasets create -p {name} --dir-mode zip" for name in sets]
        names = (QUICKSTART, *notebooks, INFERENCE)
        commands += [f"kaggle kernels push -p notebooks/{name}" for name in names]
        placeholder = f"\nPut your name there for `{USER}` in every `*-metadata.json`."
        data = Path(self._given().get("data") or "").name
        lacking = f"Attach the recordings, named {data}, to each notebook there.\n"
        attached = lacking if data and not self.attach else ""
        series = (
            f"`{QUICKSTART}` runs the whole series in one session. The notebooks 01 to 08 are the "
            "same in a session each: each takes what the ones before it wrote."
        )
        alone = " `kaggle_inference` needs none of them: the weights come along as a data set."
        return PAGE.format(
            title=self.title(self.run.name),
            placeholder=placeholder if self.user == USER else "",
            commands="\n".join(commands),
            notebooks=series + alone * self.has_networks,
            attached=attached,
            wheels=f"\n{problem}\n" if problem else "",
        )


def filled(source: str | list[str], values: dict) -> list[str]:
    """A cell of parameters with other values, its comments kept.

    >>> filled("run = None  # one word\\nfast = False  # or True", {"run": "mine"})
    ["run = 'mine'  # one word\\n", 'fast = False  # or True']
    """
    lines = []
    for line in "".join(source).splitlines(keepends=True):
        name, _, rest = line.partition(" = ")
        comment = rest[rest.index("  #") :] if "  #" in rest else "\n"
        lines.append(f"{name} = {values[name]!r}{comment}" if name in values else line)
    return lines


def weights(run: Path, target: Path) -> None:
    """Write what `hidden.begin` needs of a run: networks, settings, the shares of the classes.

    Args: run its folder; target a folder, whose name is the run's.
    """
    record = artifacts.read_json(run / "run.json")
    model = record["config"]["submit"]["model"]
    own = any((run / "models" / model).glob("fold*/weights.safetensors"))
    home = run / "models" / (model if own else "cnn")
    for pattern in NETWORKS:
        for path in home.glob(pattern):
            _copy(path, target / path.relative_to(run))
    labels = artifacts.read_json(next(home.glob("fold*/card.json")))["labels"]
    config = record["config"]
    root = config["data"]["root"] and Path(config["data"]["root"]).name
    config = {**config, "data": {**config["data"], "root": root}}
    artifacts.write_json(target / "run.json", {"config": config, "stages": {}})
    artifacts.write_json(target / hidden.SHARES, hidden.class_shares(run, labels).to_dict())
    own = Config(**record["config"])
    if priors.asked(own):
        learned = hidden.facts_learned(run, folders.locate(own), labels)
        artifacts.write_json(target / hidden.FACTS, learned)


def wheels(folder: Path) -> str:
    """Download what Kaggle's image lacks, as wheels for its Python.

    Returns "" or, where that is not possible, what to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--only-binary", ":all:", "--no-deps", "--python-version", PYTHON, "-d", str(folder)]
    options += [f"--platform={name}" for name in PLATFORMS]
    options += [f"--find-links={folder}"]  # what a call before this one left there
    command = [sys.executable, "-m", "pip", "download", "-q", "--retries", "1", *options, *pins()]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.returncode:
        return ""
    reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    return (
        f"The wheels could not be downloaded ({reason[:200]}). Write the kit again where there is"
        " internet, or turn the internet on for the notebooks, which then install what is missing."
    )


def pins() -> list[str]:
    """The packages that Kaggle lacks, at the versions of the lock."""
    path = REPOSITORY / "requirements-lock.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    there = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    pinned = []
    for line in lines:
        if line.partition("==")[0] not in LACKING:
            continue
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate(there):
            pinned.append(f"{one.name}{one.specifier}")
    return pinned


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        rubbish = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(source, target, ignore=rubbish, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
