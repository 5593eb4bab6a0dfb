"""What the tests of whole chains share: tiny settings, and a notebook as its reader sees it."""

import re

import nbformat

TINY = (
    "train.epochs=1 train.views=1 data.demo_train=60 data.demo_test=12"
    " model.channels=[4,4,8,8] evaluate.worst=2"
)


def page(folder, name):
    """What a reader sees of an executed notebook: the texts and the outputs, without pictures and
    sounds.
    """
    shown = []
    for cell in nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4).cells:
        shown += [cell.source] if cell.cell_type == "markdown" else []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            shown.append(
                output.get("text", "") or data.get("text/html", "") or data.get("text/plain", "")
            )
    return re.sub(r"base64,[^'\"]+", "", "\n".join(shown))
