"""Makes a bare Colab or Kaggle kernel ready: installs what is missing, and nothing else.

Needs the standard library alone, because it runs before anything is installed.
"""

import importlib
import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
INPUTS = "/kaggle/input"  # where Kaggle mounts data sets, read-only
IMPORT_NAMES = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "PyYAML": "yaml",
    "xgboost-cpu": "xgboost",
    "ipython": "IPython",
}
OPTIONAL = {"av": "m4a, mp4, aac and webm files will be set aside (pip install av)"}
OFFLINE = f"""Without internet, attach a data set with the wheels of these packages, and of what
they need, for Python {sys.version_info[0]}.{sys.version_info[1]}: those below {INPUTS} are found.
From elsewhere:
%pip install --no-index --find-links <folder of wheels> <package>"""


def package(line):
    """Name of the package that a line of a requirements file asks for."""
    return re.match(r"[A-Za-z0-9_.-]+", line).group()


def missing_requirements(text):
    """The lines of a requirements file whose package cannot be imported, comments taken off.

    >>> missing_requirements("numpy>=2.0   # arrays\\nno-such-package-x>=1 ; python_version >= '3'")
    ["no-such-package-x>=1 ; python_version >= '3'"]
    """
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    names = {line: package(line) for line in lines if line and not line.startswith("-")}
    modules = {line: IMPORT_NAMES.get(name, name.replace("-", "_")) for line, name in names.items()}
    return [
        line
        for line, module in modules.items()
        if importlib.util.find_spec(module.split(".")[0]) is None
    ]


def prepare():
    """Install the missing requirements with pip, holding an installed torch where it is.

    Wheels among Kaggle's inputs are taken first, without the internet. Raises RuntimeError, with
    what to do, if pip fails; without what is optional it says what will be missing, and goes on.
    """
    missing = missing_requirements(REQUIREMENTS.read_text(encoding="utf-8"))
    needed = [line for line in missing if package(line) not in OPTIONAL]
    if needed:
        print(f"Installing {len(needed)} packages: {', '.join(needed)}")
        if failure := install(needed):
            raise RuntimeError(
                f"pip could not install {', '.join(needed)}:\n{failure[-600:]}\n{OFFLINE}"
            )
    for line in missing:
        if package(line) in OPTIONAL and install([line], "--retries", "0"):
            print(
                f"{package(line)} is not there and cannot be installed: {OPTIONAL[package(line)]}."
            )
    importlib.invalidate_caches()


def install(lines, *options):
    """Install requirements with pip: from wheels among Kaggle's inputs, else from the internet.

    Returns the end of what pip said if it failed, else None.
    """
    held = []
    if importlib.util.find_spec("torch"):
        version = metadata.version("torch")
        held = [f"torch=={version}"]
        pair = f"torchaudio=={'.'.join(version.split('.')[:2])}.*"  # it names no torch itself
        lines = [pair if package(line) == "torchaudio" else line for line in lines]
    links = [f"--find-links={folder}" for folder in wheel_folders()]
    for source in ([["--no-index", *links]] if links else []) + [links]:
        command = [sys.executable, "-m", "pip", "install", "-q", *options, *source, *lines, *held]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.returncode:
            return None
    return done.stderr or "pip failed"


def wheel_folders():
    """Folders of wheels among Kaggle's inputs, which are data sets up to three folders deep."""
    depths = ("", "*/", "*/*/", "*/*/*/")
    return sorted(
        {wheel.parent for depth in depths for wheel in Path(INPUTS).glob(depth + "*.whl")}
    )
