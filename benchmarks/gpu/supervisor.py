"""Runs workers: what ends or stalls one is the outcome of its variant, and another goes on."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import IO, Any

from gpu.worker import Job, Outcome

__all__ = ["Supervisor"]

_START_SECONDS = 120.0  # torch is imported, the GPU is started, the ceilings are measured
_ENDED = None


@dataclass
class Supervisor:
    """Gives outcomes in the order of the entries.

    Args:
        stall_seconds: for one variant.
        end: `perf_counter` when all must be done.
        ceilings: as the first worker measured them.
        command: that starts a worker.
    """

    stall_seconds: float
    end: float
    ceilings: dict[str, float] = field(default_factory=dict)
    command: Sequence[str] = (sys.executable, "-m", "gpu.worker")

    def run(self, job: Job) -> Iterator[Mapping[str, Any]]:
        """Outcomes, each as JSON has it; for what there is no time for, too."""
        while job.entries and perf_counter() < self.end:
            job = replace(job, seconds=self.end - perf_counter(), ceilings=self.ceilings or None)
            done = 0
            for outcome in self._work(job):
                done += 1
                yield outcome
            job = replace(job, entries=job.entries[done:])
        for entry in job.entries:
            yield asdict(Outcome(entry["variant"], "skipped", "no time was left"))

    def _work(self, job: Job) -> Iterator[Mapping[str, Any]]:
        """Outcomes of one worker; the last is that of the variant that ended it, if one did."""
        process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        running, count = None, 0
        try:
            with suppress(BrokenPipeError):  # it has ended already, which shows below
                process.stdin.write(json.dumps(asdict(job)))
                process.stdin.close()
            while (event := self._event(lines, running)) is not _ENDED:
                self.ceilings = event.get("ceilings", self.ceilings)
                running = event.get("next")
                if "outcome" in event:
                    count += 1
                    yield event["outcome"]
            why = f"the process ended with status {process.wait()}"
        except TimeoutError as error:
            why = str(error)
        finally:
            process.kill()
            process.wait()
        if running is not None or count == 0:
            name = running or job.entries[0]["variant"]
            yield asdict(Outcome(name, "failed" if perf_counter() < self.end else "skipped", why))

    def _event(self, lines: "queue.Queue[str | None]", running: str | None) -> Any:
        """The next event, or None at the end of a worker.

        Raises:
            TimeoutError: nothing came in time.
        """
        limit = _START_SECONDS if running is None else self.stall_seconds
        try:
            line = lines.get(timeout=max(0.0, min(limit, self.end - perf_counter())))
        except queue.Empty:
            message = f"nothing came for {limit:.0f} s"
            if perf_counter() >= self.end:
                message = "no time was left"
            raise TimeoutError(message) from None
        return _ENDED if line is None else json.loads(line)


def _read(stream: IO[str], lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)
