"""The runner without kernels: each notebook's cells are executed in this process, one stage after
the other.
"""

import contextlib
import io
import warnings

import matplotlib.pyplot as plt
import nbformat
from IPython.display import display
from papermill.engines import Engine, papermill_engines


class Reached(Exception):
    """What a notebook's first cells have given names to."""

    def __init__(self, names):
        super().__init__("as far as asked for")
        self.names = names


class Here(Engine):
    """An engine of papermill. The runner, its parameters and the notebooks are the real ones; a
    kernel's start and imports, most of a tiny chain's time, are saved.
    """

    last = None  # a name: once the notebook has given it a value, Reached is raised

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **options):
        names = {"__name__": "__main__", "display": display}  # as a kernel gives it
        code = [cell for cell in nb_man.nb.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code, 1):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(cell.source, f"cell {number}", "exec"), names)
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", text=printed.getvalue())]
            plt.close("all")
            if cls.last in names:
                raise Reached(names)


@contextlib.contextmanager
def no_kernels(last=None):
    """Within it papermill executes notebooks in this process, until one has given a value to the
    name `last`.
    """
    usual = papermill_engines.get_engine()
    papermill_engines.register(None, type("Here", (Here,), {"last": last}))
    try:
        yield
    finally:
        papermill_engines.register(None, usual)
