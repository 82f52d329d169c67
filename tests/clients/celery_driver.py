"""Task queues with Celery: a driver, and workers in processes of their own, one of which is killed in
the middle of a task. Argument: the port.
"""

import os
import signal
import subprocess
import sys
import time

PATIENCE_S = 120
# What nobody has acknowledged for so long is given to another worker; the first worker holds its
# tasks as long as it likes.
NEVER, SOON = "3600", "2"

os.environ["PORT"], os.environ["VISIBILITY"] = sys.argv[1], NEVER

from celery import chain, chord, group  # noqa: E402

from celery_jobs import add, app, broken, fatal, flaky, marks, total  # noqa: E402


def start_worker(name, visibility):
    command = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker"]
    command += ["--concurrency", "2", "--hostname", f"{name}@%h", "--loglevel", "ERROR"]
    folder = os.path.dirname(os.path.abspath(__file__))
    environment = {**os.environ, "PYTHONPATH": folder, "VISIBILITY": visibility}
    environment["C_FORCE_ROOT"] = "1"
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"in vain waited for {what}"
        time.sleep(0.02)


def ordinary_tasks():
    results = [add.delay(n, n) for n in range(100)]
    assert [result.get(timeout=PATIENCE_S) for result in results] == [2 * n for n in range(100)]
    together = group(add.s(n, 1) for n in range(30)).apply_async()
    assert together.get(timeout=PATIENCE_S) == [n + 1 for n in range(30)]
    chords = [chord((add.s(n, k) for n in range(10)), total.s()).apply_async() for k in range(5)]
    assert [one.get(timeout=PATIENCE_S) for one in chords] == [45 + 10 * k for k in range(5)]
    assert chain(add.s(1, 2), add.s(3), add.s(4)).apply_async().get(timeout=PATIENCE_S) == 10
    retried = [flaky.delay(3) for _ in range(5)]
    assert [result.get(timeout=PATIENCE_S) for result in retried] == [3] * 5
    later = add.apply_async((1, 1), countdown=0.2)
    assert later.get(timeout=PATIENCE_S) == 2
    try:
        broken.delay().get(timeout=PATIENCE_S)
        raise SystemExit("a broken task answered")
    except ValueError as error:
        assert str(error) == "as it should"
    begun = marks.hgetall("begun")
    for result in [*results, *together.results, later]:
        assert begun[result.id] == "1", f"{result.id} was done {begun[result.id]} times"


def orphan(first):
    """A worker dies in the middle of a task: another one takes it over."""
    job = fatal.delay()
    until(lambda: marks.llen("victim") == 2, "the task to begin")
    victims = [int(victim) for victim in marks.lrange("victim", 0, -1)]
    assert victims[0] == first.pid
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    first.wait()
    # From here on somebody looks for what was not acknowledged.
    second = start_worker("second", SOON)
    assert job.get(timeout=PATIENCE_S) == second.pid
    assert marks.hget("begun", job.id) == "2"
    assert app.control.inspect(timeout=PATIENCE_S, limit=1).ping()
    second.send_signal(signal.SIGTERM)
    second.wait(PATIENCE_S)


first = start_worker("first", NEVER)
ordinary_tasks()
orphan(first)
print("done")
