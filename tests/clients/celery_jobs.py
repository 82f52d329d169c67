"""Tasks of Celery. Environment: PORT, and VISIBILITY, after how many seconds a task that nobody has
acknowledged is given to another worker.

Every task leaves a mark when a worker begins it, so that the driver can count.
"""

import os
import time

import redis
from celery import Celery

port = os.environ["PORT"]
app = Celery("jobs", broker=f"redis://127.0.0.1:{port}/0", backend=f"redis://127.0.0.1:{port}/1")
app.conf.update(
    broker_transport_options={"visibility_timeout": int(os.environ["VISIBILITY"])},
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)
marks = redis.Redis(port=int(port), db=2, decode_responses=True)


def begin(task):
    """How often the task has been begun, this time included."""
    return marks.hincrby("begun", task.request.id, 1)


@app.task(bind=True)
def add(self, a, b):
    begin(self)
    return a + b


@app.task(bind=True)
def total(self, numbers):
    begin(self)
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def flaky(self, attempts):
    times = begin(self)
    if times < attempts:
        raise self.retry(countdown=0.05)
    return times


@app.task
def broken():
    raise ValueError("as it should")


@app.task(bind=True, acks_late=True)
def fatal(self):
    if begin(self) > 1:
        return os.getppid()
    marks.rpush("victim", os.getppid(), os.getpid())
    time.sleep(3600)
