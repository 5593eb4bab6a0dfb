"""What stops a command: one family of errors, each saying what to do, with its exit status."""


class Stop(Exception):
    """What a user can put right. A command shows the message alone and ends with `status`."""

    status = 1  # not ready, or failed


class StageError(Stop, RuntimeError):
    """A stage cannot begin or cannot be called finished; the message says what to do."""


class PipelineError(StageError):
    """A stage failed; the message names the notebook, the cell and the error."""


class TrainingError(StageError):
    """A process that trained with others failed; the message shows what it said last."""


class AudioIssue(Stop, ValueError):
    """A file that cannot be used: `code` is one word (EMPTY_FILE, TRUNCATED, …), `detail` why."""

    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class TooManyBad(Stop, ValueError):
    """Too few usable recordings are left; the message is a table by reason."""


class SplitError(Stop, ValueError):
    """The data cannot be split honestly; the message names what prevents it."""


class ConfigError(Stop, ValueError):
    """A preset or a setting that cannot be used; the message says what it may be."""

    status = 2  # what was given cannot be used


class MissingLibrary(Stop, ImportError):
    """An optional library that a setting needs is not installed; the message says how to get it."""


class SourceError(Stop, ValueError):
    """Recordings, labels or tables that cannot be found or used; the message says where."""

    status = 2


class SubmissionError(Stop, ValueError):
    """The submission would be refused; the message lists every problem."""

    status = 2


class ShapeError(ValueError):
    """A waveform that is not mono, [samples]; channels last would pass for thousands of them."""
