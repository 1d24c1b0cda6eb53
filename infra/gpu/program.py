"""Programs run with a time limit, each in a process group of its own; what they print is kept as it comes."""
import json
import os
import shlex
import signal
import subprocess
import threading
import time


class Ran:
    """A command that ended, or was ended."""

    def __init__(self, command, code, lines, seconds, late, log):
        self.command, self.code, self.lines, self.seconds = command, code, lines, seconds
        self.late, self.log = late, log
        self.objects = [value for value in map(parsed, lines) if isinstance(value, dict)]

    @property
    def last(self):
        return self.objects[-1] if self.objects else {}

    def why(self):
        """What went wrong, in one line."""
        if self.late:
            return f"not done within {self.seconds:.0f} s"
        if self.last.get("status") == "error":
            return f"exit {self.code}: {self.last.get('message')}"
        with open(self.log, errors="replace") as file:
            told = file.read().split("\n--- stderr\n")[-1].split("--- stdout\n")[0]
        lines = told.strip().splitlines()
        return f"exit {self.code}: {lines[-1][:200] if lines else 'no message'}"


def parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


def run(command, limit_s, log, cwd=None, env=None, watch=None):
    """Runs `command` for at most `limit_s` seconds. `watch(process, lines)` is called until it says True, and
    then the process is killed without warning (SIGKILL, the whole group)."""
    began, lines = time.monotonic(), []
    with open(log, "a") as file:
        file.write(f"\n$ {shlex.join(command)}\n--- stderr\n")
        file.flush()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, stdin=subprocess.DEVNULL, text=True, errors="replace",
            cwd=cwd, env=dict(os.environ, **(env or {})), start_new_session=True,
        )
        reader = threading.Thread(target=collect, args=(process.stdout, lines), daemon=True)
        reader.start()
        late = False
        while process.poll() is None:
            if time.monotonic() - began > limit_s:
                late = True
                break
            if watch and watch(process, lines):
                break
            time.sleep(0.001 if watch else 0.02)
        end(process)
        reader.join(5)
    with open(log, "a") as file:
        file.write("--- stdout\n" + "".join(line + "\n" for line in lines))
    return Ran(command, process.returncode, lines, time.monotonic() - began, late, log)


def collect(stream, lines):
    for line in stream:
        lines.append(line.rstrip("\n"))


def end(process):
    """Ends what still runs, with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
