"""A worker for Zexio: no port, state in $DATA_DIR, and on SIGTERM it finishes the current job and ends.

A job is a file in $DATA_DIR/queue; its result is a line in $DATA_DIR/done."""

import os
import pathlib
import signal

# The signal is handled between two jobs, never during one.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

data = pathlib.Path(os.environ.get("DATA_DIR", "."))
queue = data / "queue"
queue.mkdir(exist_ok=True)


def work(job):
    with open(data / "done", "a") as done:
        done.write(f"{job.name} by release {os.environ.get('ZEXIO_RELEASE', '0')}\n")
    job.unlink()
    print("did", job.name, flush=True)


while True:
    for job in sorted(queue.iterdir()):
        work(job)
        if signal.SIGTERM in signal.sigpending():
            break
    if signal.sigtimedwait({signal.SIGTERM}, 1):
        print("asked to stop", flush=True)
        break
