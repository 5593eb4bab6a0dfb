"""The command line: what it is asked, and the status it ends with."""

from pathlib import Path

from helpers.run import cli, pipeline


def test_a_series_that_ran_through_ends_with_status_0(monkeypatch):
    asked = {}

    def run_all(**options):
        asked.update(options)
        return Path("outputs/demo"), ["01_explore"]

    monkeypatch.setattr(pipeline, "run_all", run_all)
    assert cli.main(["run-all", "--fast", "--until", "01_explore"]) == 0
    assert asked["fast"] and asked["until"] == "01_explore"
