"""Training on a busy machine: what it keeps of its speed beside processes that never rest.

``python -m benchmarks.busy`` trains the demo's network alone, and beside one busy process per core,
where a fair share is half the speed. Threads that wait for each other spin, as OpenMP lets them, or
sleep, as `helpers` asks for (OMP_WAIT_POLICY). It should be the only other work of the machine.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks import harness
from helpers.models import networks
from helpers.run import presets

CLIPS = 32
WAYS = {"spin": {"GOMP_SPINCOUNT": "300000"}, "sleep": {}}  # the first is what GNU's OpenMP does
ROUNDS = 3


def steps_per_second(seconds):
    """Training steps of the demo's network on random clips, in a second."""
    config = presets.load("demo")
    classifier = networks.build(config, 10, fresh=False).train()
    optimiser = torch.optim.AdamW(classifier.parameters())
    samples = round(config.audio.clip_seconds * config.audio.sample_rate)
    clips = torch.randn(CLIPS, samples)
    asked = torch.randint(10, (CLIPS,))

    def step():
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(classifier(clips), asked).backward()
        optimiser.step()

    for _ in range(3):
        step()
    count = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - started)


def apart(way, seconds):
    """The same in a process of its own, whose threads wait in one of WAYS."""
    command = [sys.executable, "-m", "benchmarks.busy", "--seconds", str(seconds), "--alone"]
    environment = {**os.environ, **WAYS[way]}
    return float(subprocess.check_output(command, env=environment, text=True))


@contextlib.contextmanager
def busy(processes):
    """So many processes that never rest, inside the block."""
    started = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        print(steps_per_second(asked.seconds))
        return
    found = {(way, others): [] for way in WAYS for others in (0, harness.cores())}
    for _ in range(ROUNDS):
        for way, others in found:
            with busy(others):
                found[way, others].append(apart(way, asked.seconds))
    print("threads | steps/s alone | beside as many busy processes as cores | share kept")
    for way in WAYS:
        alone, beside = (statistics.median(found[way, n]) for n in (0, harness.cores()))
        print(f"{way} | {alone:.2f} | {beside:.2f} | {beside / alone:.0%}")


if __name__ == "__main__":
    main()
