"""One strategy's trainings in a process of their own."""

import dataclasses
import json
import subprocess
import sys
import threading


def measure(data, config, seeds, progress):
    """Train by `config.strategy` once a seed in a fresh process; return the row of the table.

    Args:
        data: Folder of pictures.
        config: `TuneConfig`; its `seed` is the first of `seeds` seeds in a row.
        seeds: Int > 0.
        progress: Object with `count(done, total)`.

    Raises:
        ValueError: For what the worker finds unusable.
        RuntimeError: If it dies.
    """
    job = {"data": str(data), "config": dataclasses.asdict(config), "seeds": seeds}
    command = [sys.executable, "-m", "kerastl.compare.worker"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            messages, said = _converse(process, job, progress)
        except BaseException:
            process.kill()
            raise
    if "error" in messages:
        raise ValueError(messages["error"])
    if process.returncode or "row" not in messages:
        raise RuntimeError(
            f"Training by {config.strategy!r} ended with code {process.returncode}: "
            f"{said.strip()[-500:] or 'it said nothing; memory may have run out'}"
        )
    return messages["row"]


def _converse(process, job, progress):
    """Send the job; the last message of each kind, and what was written to standard error."""
    said = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
    reader.start()
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    messages = {}
    for line in process.stdout:
        message = json.loads(line)
        messages.update(message)
        if "done" in message:
            progress.count(message["done"], job["seeds"])
    process.wait()
    reader.join()
    return messages, "".join(said)
