"""Run command lines of seewhy in processes forked from one that has already imported torch and Lightning.

Importing them takes about 8 seconds of processor time, more than most of the commands under test. Each command still
has a separate process with its arguments, folder, environment, output and exit status, and can kill itself. Processes
that a command starts (DDP ranks) are started as usual and import everything again.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


class CommandServer:
    """A process that forks one child per command; close it when done.

    Example:
        server.run(["train.py", "--help"], cwd=folder, env={}).stdout
    """

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, words, *, cwd, env, timeout=300):
        """Run a script with its arguments, like `subprocess.run` with captured text.

        Raises:
            subprocess.TimeoutExpired: after `timeout` seconds; the command is killed.
        """
        words = [str(word) for word in words]
        with tempfile.TemporaryDirectory() as folder:
            request = {"words": words, "cwd": str(cwd), "env": env, "folder": folder, "timeout": timeout}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = json.loads(self._process.stdout.readline())
            stdout, stderr = (Path(folder, name).read_text(errors="replace") for name in ("stdout", "stderr"))
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout, stdout, stderr)
        return subprocess.CompletedProcess(words, code, stdout, stderr)

    def close(self):
        """End the server."""
        self._process.stdin.close()
        self._process.wait()


def serve():
    """Import what the commands need, then fork one child per line of standard input and print its exit status."""
    import seewhy.run.explain
    import seewhy.run.predict
    import seewhy.run.train  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
            return
        print(json.dumps(_wait(child, request["timeout"])), flush=True)


def _become(request):
    """Turn a forked child into the process of a command; its exit status is that of the command."""
    for number, name in ((0, os.devnull), (1, f"{request['folder']}/stdout"), (2, f"{request['folder']}/stderr")):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    script, *_ = sys.argv = request["words"]
    path = [part for part in sys.path[1:] if part != str(SOURCE)]
    extra = [part for part in request["env"].get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [str(Path(script).parent), *extra, *path]
    runpy.run_path(script, run_name="__main__")


def _wait(child, timeout):
    """Exit status of a child, negative for a signal; None if it had to be killed after the timeout."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    serve()
