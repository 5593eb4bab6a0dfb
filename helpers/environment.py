"""Makes a bare Colab or Kaggle kernel ready: installs what is missing, and nothing else.

Needs the standard library alone, because it runs before anything is installed.
"""

import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
DRIVE = "/content/drive"  # where Colab mounts Google Drive
IMPORT_NAMES = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "PyYAML": "yaml",
    "xgboost-cpu": "xgboost",
    "ipython": "IPython",
}


def missing_requirements(text):
    """The lines of a requirements file whose package cannot be imported, comments taken off.

    >>> missing_requirements("numpy>=2.0   # arrays\\nno-such-package-x>=1 ; python_version >= '3'")
    ["no-such-package-x>=1 ; python_version >= '3'"]
    """
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    names = {line: re.match(r"[A-Za-z0-9_.-]+", line).group() for line in lines if line and not line.startswith("-")}
    modules = {line: IMPORT_NAMES.get(name, name.replace("-", "_")) for line, name in names.items()}
    return [line for line, module in modules.items() if importlib.util.find_spec(module.split(".")[0]) is None]


def prepare():
    """Install the missing requirements with pip, holding an installed torch where it is.

    Raises RuntimeError, with what to do, if pip fails (Kaggle without internet, for instance).
    """
    missing = missing_requirements(REQUIREMENTS.read_text(encoding="utf-8"))
    if not missing:
        return
    print(f"Installing {len(missing)} packages: {', '.join(missing)}")
    held = [f"torch=={metadata.version('torch')}"] if importlib.util.find_spec("torch") else []
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *missing, *held], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(
            f"pip could not install {', '.join(missing)}:\n{done.stderr[-600:]}\n"
            "Without internet, attach a data set with their wheels and run: "
            "%pip install --no-index --find-links /kaggle/input/<wheels> <package>"
        )
    importlib.invalidate_caches()


def mount_drive(path):
    """Mount Google Drive if a path lies on it and this is a Colab kernel where it is not mounted yet."""
    on_drive = str(path).startswith(f"{DRIVE}/")
    if on_drive and not Path(DRIVE).is_dir() and "google.colab" in sys.modules:
        importlib.import_module("google.colab.drive").mount(DRIVE)
