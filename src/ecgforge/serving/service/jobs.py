"""Sampling jobs: a bounded queue, one worker thread, results that are kept for a while.

Sampling takes seconds to minutes and all processor cores, so jobs are done one after the other. A job's records can be
had as they come. Nothing is written to disk: what nobody fetched is gone when it expires or the service stops.
"""

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ecgforge.errors import DataError, EcgforgeError
from ecgforge.generate import Generator
from ecgforge.record import EcgRecord
from ecgforge.sampling import Job, SamplingOptions

State = Literal["queued", "running", "done", "cancelled", "failed"]
ENDED: tuple[State, ...] = ("done", "cancelled", "failed")

_BATCH_SIZE = 1  # a record is there as soon as it is done; on a CPU larger batches are hardly faster
_STOP_S = 30.0  # the longest wait for a network call to return


class NoSuchJobError(DataError):
    """No job or record of this name; it may have expired."""


class NotReadyError(DataError):
    """The record is not made yet, or never will be."""


class QueueFullError(DataError):
    """As many jobs wait as may."""


@dataclass(frozen=True)
class Limits:
    """What one service takes on.

    Attributes:
        records: Records of one job.
        network_calls: Records times sampling steps of one job.
        waiting: Jobs in the queue behind the one that runs.
        kept: Ended jobs whose records are kept; the oldest go first.
        keep_s: Seconds for which they are kept.
        upload_bytes: Size of a request.
    """

    records: int = 64
    network_calls: int = 64 * 200
    waiting: int = 8
    kept: int = 32
    keep_s: float = 3600.0
    upload_bytes: int = 8 * 2**20


@dataclass(frozen=True)
class Order:
    """What a job is to make.

    Attributes:
        jobs: Record index within the seed, statements with grades and facts, for each record.
        seed: Of the noise.
        options: Sampler and steps.
    """

    jobs: tuple[Job, ...]
    seed: int
    options: SamplingOptions


@dataclass(frozen=True)
class JobStatus:
    """A job as it is now.

    Attributes:
        job_id: Its name.
        state: Where it is between "queued" and its end.
        statements: What each record was asked for.
        records_done: How many records can be fetched.
        share_done: Network calls done, from 0 to 1.
        jobs_before: Jobs that come first, while it is queued.
        reason: Why it failed, else "".
    """

    job_id: str
    state: State
    statements: tuple[Mapping[str, float], ...]
    records_done: int = 0
    share_done: float = 0.0
    jobs_before: int = 0
    reason: str = ""


@dataclass(eq=False)
class _Entry:
    """A job within the queue; changed under the queue's lock only."""

    order: Order
    status: JobStatus
    records: list[EcgRecord] = field(default_factory=list)
    cancelled: bool = False
    ended_at: float = 0.0


class _CancelledError(Exception):
    """Leaves the sampler from within its progress call."""


class JobQueue:
    """Jobs of one generator; every method may be called from any thread."""

    def __init__(
        self, generator: Generator, *, limits: Limits = Limits(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._generator = generator
        self._limits = limits
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._worker = threading.Thread(target=self._work, name="sampling", daemon=True)

    def start(self) -> None:
        """Begin to work; jobs may be waiting already."""
        self._worker.start()

    def stop(self) -> None:
        """Cancel what runs and wait until it has stopped."""
        with self._changed:
            self._stopping = True
            for entry in self._entries.values():
                entry.cancelled = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(_STOP_S)

    def submit(self, order: Order) -> JobStatus:
        """Take a job on, after everything a client could have got wrong was looked at.

        Raises:
            LabelError, ConfigError: as Generator.sample.
            QueueFullError: too many jobs wait.
        """
        order = replace(order, options=replace(order.options, batch_size=_BATCH_SIZE))
        self._generator.check(order.jobs, seed=order.seed, options=order.options)
        with self._changed:
            self._forget_expired()
            if len(self._waiting) >= self._limits.waiting:
                raise QueueFullError(
                    f"expected at most {self._limits.waiting} jobs in the queue, it is full; try again when one is "
                    "done, or cancel one"
                )
            job_id = secrets.token_hex(8)
            status = JobStatus(job_id, "queued", tuple(job.statements for job in order.jobs))
            self._entries[job_id] = _Entry(order, status)
            self._waiting.append(job_id)
            self._changed.notify_all()
            return self._status(job_id)

    def status(self, job_id: str) -> JobStatus:
        """How far a job is.

        Raises:
            NoSuchJobError: no such job, or it has expired.
        """
        with self._changed:
            self._forget_expired()
            return self._status(job_id)

    def record(self, job_id: str, index: int) -> EcgRecord:
        """Record `index` of a job, in the order asked for.

        Raises:
            NoSuchJobError: no such job or record, or it has expired.
            NotReadyError: the record is not made yet, or the job ended without it.
        """
        with self._changed:
            self._forget_expired()
            status = self._status(job_id)
            if not 0 <= index < len(status.statements):
                raise NoSuchJobError(f"expected a record from 0 to {len(status.statements) - 1}, got {index}")
            if index >= status.records_done:
                hint = "the job has ended without it" if status.state in ENDED else "ask again when it is done"
                raise NotReadyError(f"record {index} of a {status.state} job is not there; {hint}")
            return self._entries[job_id].records[index]

    def records(self, job_id: str) -> Sequence[EcgRecord]:
        """All records a job has so far.

        Raises:
            NoSuchJobError: no such job, or it has expired.
            NotReadyError: there is none yet.
        """
        with self._changed:
            self._forget_expired()
            status = self._status(job_id)
            if not status.records_done:
                raise NotReadyError(f"this {status.state} job has no records; ask again when it is done")
            return tuple(self._entries[job_id].records)

    def cancel(self, job_id: str) -> JobStatus:
        """Stop a job; the records it has stay. A job that has ended stays as it is.

        Raises:
            NoSuchJobError: no such job, or it has expired.
        """
        with self._changed:
            self._forget_expired()
            if self._status(job_id).state not in ENDED:
                entry = self._entries[job_id]
                entry.cancelled = True
                if job_id in self._waiting:
                    self._waiting.remove(job_id)
                self._end(entry, "cancelled")
            return self._status(job_id)

    # ------------------------------------------------------------------------------- under the lock

    def _status(self, job_id: str) -> JobStatus:
        if job_id not in self._entries:
            raise NoSuchJobError(f"no job {job_id[:40]!r}; it never was, or it has expired: send it again")
        status = self._entries[job_id].status
        if status.state != "queued":
            return status
        running = sum(entry.status.state == "running" for entry in self._entries.values())
        return replace(status, jobs_before=self._waiting.index(job_id) + running)

    def _forget_expired(self) -> None:
        ended = sorted(
            (entry.ended_at, job_id) for job_id, entry in self._entries.items() if entry.status.state in ENDED
        )
        surplus = len(ended) - self._limits.kept
        for number, (ended_at, job_id) in enumerate(ended):
            if number < surplus or self._clock() - ended_at > self._limits.keep_s:
                del self._entries[job_id]

    def _end(self, entry: _Entry, state: State, *, reason: str = "") -> None:
        if entry.status.state not in ENDED:  # the first end stands: a cancelled job does not become done
            entry.status = replace(entry.status, state=state, reason=reason)
            entry.ended_at = self._clock()

    # ------------------------------------------------------------------------------- the worker thread

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            try:
                self._make(entry)
            except _CancelledError:
                state, reason = "cancelled", ""
            except EcgforgeError as error:
                state, reason = "failed", str(error)
            except Exception:
                logging.getLogger(__name__).exception("a sampling job failed")
                state, reason = "failed", "an error within ecgforge; the service's log has it"
            else:
                state, reason = "done", ""
            with self._changed:
                self._end(entry, state, reason=reason)  # type: ignore[arg-type]

    def _next(self) -> _Entry | None:
        """The next job, once there is one; None when the service stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if self._stopping:
                return None
            entry = self._entries[self._waiting.popleft()]
            entry.status = replace(entry.status, state="running")
            return entry

    def _make(self, entry: _Entry) -> None:
        order = entry.order

        def progress(done: int, total: int) -> None:
            self._report(entry, share_done=done / total)

        for record in self._generator.sample_each(
            order.jobs, seed=order.seed, options=order.options, progress=progress
        ):
            with self._changed:
                entry.records.append(record)
            self._report(entry, share_done=len(entry.records) / len(order.jobs))

    def _report(self, entry: _Entry, *, share_done: float) -> None:
        with self._changed:
            if entry.cancelled:
                raise _CancelledError
            entry.status = replace(entry.status, share_done=share_done, records_done=len(entry.records))
