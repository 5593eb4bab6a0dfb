"""A session as on Kaggle or Colab: their folders at their paths, inputs read-only, no network.

`python tests/platforms.py TREE WORK COMMAND…` runs a command in namespaces of its own, made by
`unshare`, which needs no rights where it is allowed, or those of root. The root that it sees is
this machine's, with TREE's folders at /: what is called `input` cannot be written to.
"""

import fcntl
import functools
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

UNSHARE = ["unshare", "--mount", "--net"]
AS_ANYBODY = ["--user", "--map-root-user"]
PLACES = {"kaggle", "content"}  # of this machine, which the tree's take the place of
LOOPBACK_UP = (0x8914, struct.pack("16sh", b"lo", 0x49))  # SIOCSIFFLAGS; kernels talk by loopback

NOTEBOOK = """
import json, sys, papermill
source, target, parameters = sys.argv[1:]
papermill.execute_notebook(
    source, target, json.loads(parameters), kernel_name="python3", progress_bar=False
)
"""


@functools.cache
def unshare() -> list[str]:
    """The command that makes namespaces here: as anybody, else as root; [] where neither may."""
    for rights in (AS_ANYBODY, []) if shutil.which("unshare") else ():
        command = [*UNSHARE, *rights]
        tried = subprocess.run([*command, "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True)
        if tried.returncode == 0:
            return command
    return []


def run(tree: Path, work: str, *command: str) -> subprocess.CompletedProcess:
    """Run a command in a session. Args: tree its folders; work the folder to begin in."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ
    }
    environment = {
        **kept,
        "HOME": str(tree.parent),
        "EARSHOT_HEADLESS": "1",
        "OMP_NUM_THREADS": "1",
    }
    inside = [*unshare(), sys.executable, __file__, str(tree), work, *command]
    return subprocess.run(inside, capture_output=True, text=True, env=environment)


def enter(tree: Path, work: str, command: list[str]):
    """Put the new root together and become the command in it; within the namespaces."""
    root = Path(tempfile.mkdtemp(dir=tree.parent))
    mount("-t", "tmpfs", "root", root)
    for path in Path("/").iterdir():
        if path.name in PLACES:
            continue
        if path.is_symlink():
            (root / path.name).symlink_to(os.readlink(path))
        elif path.is_dir():
            (root / path.name).mkdir()
            mount("--rbind", path, root / path.name)
    for path in tree.iterdir():
        place = root / path.name
        place.mkdir()
        mount("--bind", path, place)
        if (path / "input").is_dir():
            mount("--bind", path / "input", place / "input")
            mount("-o", "remount,bind,ro", place / "input")
    with socket.socket() as wire:
        fcntl.ioctl(wire, *LOOPBACK_UP)
    os.chroot(root)
    os.chdir(work)
    os.execvp(command[0], command)


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


if __name__ == "__main__":
    enter(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
