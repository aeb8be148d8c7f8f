"""The queue of sampling jobs: what is kept, for how long, and that one failure is not the end."""

import time
from collections.abc import Iterator

import pytest

from ecgforge.errors import DataError
from ecgforge.generate import Generator
from ecgforge.record import EcgRecord
from ecgforge.sampling import Job, SamplingOptions
from ecgforge.serving.service.jobs import ENDED, JobQueue, JobStatus, Limits, NoSuchJobError, NotReadyError, Order

ORDER = Order(jobs=(Job(0, {"NORM": 1.0}),), seed=0, options=SamplingOptions(sampler="ddim", steps=1))


def wait(queue: JobQueue, job: JobStatus) -> JobStatus:
    while (status := queue.status(job.job_id)).state not in ENDED:
        time.sleep(0.005)
    return status


class Failing(Generator):
    """Samples once, then finds what nobody thought of."""

    def sample_each(self, *_: object, **__: object) -> Iterator[EcgRecord]:
        raise ZeroDivisionError("secret")


@pytest.fixture
def now() -> list[float]:
    return [0.0]


def test_ended_jobs_expire(generator: Generator, now: list[float]) -> None:
    queue = JobQueue(generator, limits=Limits(keep_s=60), clock=lambda: now[0])
    queue.start()
    job = queue.submit(ORDER)
    wait(queue, job)
    now[0] = 60.0
    assert queue.record(job.job_id, 0).provenance.index == 0
    now[0] = 60.1
    with pytest.raises(NoSuchJobError, match="it has expired"):
        queue.record(job.job_id, 0)
    queue.stop()


def test_the_oldest_go_first(generator: Generator, now: list[float]) -> None:
    queue = JobQueue(generator, limits=Limits(kept=2), clock=lambda: now[0])
    queue.start()
    jobs = []
    for _ in range(3):
        jobs.append(queue.submit(ORDER))
        wait(queue, jobs[-1])
        now[0] += 1
    with pytest.raises(NoSuchJobError):
        queue.status(jobs[0].job_id)
    assert [queue.status(job.job_id).state for job in jobs[1:]] == ["done", "done"]
    queue.stop()


def test_a_job_that_waits_can_be_cancelled(generator: Generator) -> None:
    queue = JobQueue(generator)  # not started: everything waits
    first, second = queue.submit(ORDER), queue.submit(ORDER)
    assert (first.jobs_before, second.jobs_before) == (0, 1)
    assert queue.cancel(first.job_id).state == "cancelled"
    assert queue.status(second.job_id).jobs_before == 0
    with pytest.raises(NotReadyError, match="the job has ended without it"):
        queue.record(first.job_id, 0)
    queue.start()
    assert wait(queue, second).state == "done"
    assert queue.status(first.job_id).state == "cancelled"
    queue.stop()


def test_a_failure_ends_its_job_only_and_tells_nothing_of_the_inside(generator: Generator) -> None:
    failing = Failing.__new__(Failing)
    failing.__dict__.update(generator.__dict__)
    queue = JobQueue(failing)
    queue.start()
    for job in (queue.submit(ORDER), queue.submit(ORDER)):
        status = wait(queue, job)
        assert status.state == "failed"
        assert "secret" not in status.reason
    queue.stop()


def test_stopping_cancels_what_is_left(generator: Generator) -> None:
    queue = JobQueue(generator)
    long = Order(jobs=tuple(Job(i, {"NORM": 1.0}) for i in range(64)), seed=0, options=SamplingOptions(steps=200))
    queue.start()
    job = queue.submit(long)
    while queue.status(job.job_id).state == "queued":
        time.sleep(0.005)
    queue.stop()
    assert queue.status(job.job_id).state == "cancelled"


def test_errors_of_the_queue_are_ecgforges_own(generator: Generator) -> None:
    queue = JobQueue(generator)
    with pytest.raises(DataError, match="no job 'x'"):
        queue.cancel("x")
