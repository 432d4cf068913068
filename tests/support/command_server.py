"""Run command lines of seewhy in processes forked from one that has already imported torch and Lightning.

Importing them takes about 8 seconds of processor time, more than most of the commands under test. Each command still
has a separate process with its arguments, folder, environment, output and exit status, and can kill itself. With
`processes` a command is several such processes, with the variables that torchrun gives them. Processes that a command
starts itself (Lightning's DDP ranks) are started as usual and import everything again.
"""

import atexit
import gc
import json
import os
import runpy
import socket
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

    def run(self, words, *, cwd, env, timeout=300, stop=None, processes=1):
        """Run a script with its arguments, like `subprocess.run` with captured text.

        Args:
            words: a script, or `-m` and a module, and its arguments.
            cwd: folder to run in.
            env: whole environment.
            timeout: in seconds.
            stop: how to end it early: `{"signal": number, "after": seconds}` of processor time, or `{"signal": number,
                "watch": folder, "write": n}`, just before it opens for writing, renames, creates or removes the nth
                path in `watch`. Without `write` these are only counted, as `writes` of the result; its `seconds` are
                the processor time.
            processes: number of processes, as torchrun starts them; the exit status is the first one above 0.

        Raises:
            subprocess.TimeoutExpired: after `timeout` seconds; the command is killed.
        """
        words = [str(word) for word in words]
        with tempfile.TemporaryDirectory() as folder:
            request = {"words": words, "cwd": str(cwd), "env": env, "folder": folder, "timeout": timeout}
            request |= {"stop": stop or {}, "processes": processes}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code, seconds = json.loads(self._process.stdout.readline())
            stdout, stderr = (Path(folder, name).read_text(errors="replace") for name in ("stdout", "stderr"))
            counted = Path(folder, "writes")
            writes = int(counted.read_text()) if counted.is_file() else None
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout, stdout, stderr)
        done = subprocess.CompletedProcess(words, code, stdout, stderr)
        done.writes, done.seconds = writes, seconds
        return done

    def close(self):
        """End the server."""
        self._process.stdin.close()
        self._process.wait()


def serve():
    """Import what the commands need, then fork one child per line of standard input and print its exit status."""
    import matplotlib.pyplot  # noqa: F401
    import zarr  # noqa: F401

    import seewhy.models.volumes.segmentation  # MONAI takes longest
    import seewhy.models.weakly_supervised.segmentation
    import seewhy.run.explanations.explain
    import seewhy.run.predict
    import seewhy.run.train
    import seewhy.run.volumes.predict  # noqa: F401

    gc.freeze()  # what was imported is neither searched nor released when a command ends
    for line in sys.stdin:
        request = json.loads(line)
        children = []
        for variables in _list_ranks(request["processes"]):
            child = os.fork()
            if child == 0:
                _become(request, variables)
                return
            children.append(child)
        ends = [_wait(child, request["timeout"], request["stop"]) for child in children]
        codes = [code for code, _ in ends if code != 0]
        code = None if None in codes else next(iter(codes), 0)
        print(json.dumps([code, sum(seconds for _, seconds in ends)]), flush=True)


def _list_ranks(processes):
    """Variables of the environment of each process of a command, as torchrun sets them; none for a single one."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    size, common = str(processes), {"TORCHELASTIC_RUN_ID": port, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "GROUP_RANK": "0", "TORCHELASTIC_RESTART_COUNT": "0"}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _become(request, variables):
    """Turn a forked child into the process of a command; its exit status is that of the command."""
    for number, name in ((0, os.devnull), (1, f"{request['folder']}/stdout"), (2, f"{request['folder']}/stderr")):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.environ.update(variables)
    os.chdir(request["cwd"])
    if "watch" in request["stop"]:
        _watch_writes(request["folder"], **request["stop"])
    as_module = request["words"][0] == "-m"
    script, *_ = sys.argv = request["words"][as_module:]
    path = [part for part in sys.path[1:] if part != str(SOURCE)]
    extra = [part for part in request["env"].get("PYTHONPATH", "").split(os.pathsep) if part]
    if as_module:
        sys.path[:] = [str(SOURCE), *extra, *path]
        runpy.run_module(script, run_name="__main__", alter_sys=True)
        return
    sys.path[:] = [str(Path(script).parent), *extra, *path]
    runpy.run_path(script, run_name="__main__")


CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.move"}


def _watch_writes(folder, watch, signal=None, write=None):
    """Count what changes in a folder (and its neighbours of temporary names), and end the process before the nth."""
    process, count = os.getpid(), 0
    beginning = str(Path(watch).parent / Path(watch).name)

    def look(event, arguments):
        nonlocal count
        if event == "open":
            changes = isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            changes = event in CHANGES
        if not changes or not arguments or os.getpid() != process:
            return
        if not any(beginning in str(argument) for argument in arguments[:2]):
            return
        count += 1
        if count == write:
            os.kill(process, signal)

    def report():
        if os.getpid() == process:
            Path(folder, "writes").write_text(str(count))

    sys.addaudithook(look)
    atexit.register(report)


def _wait(child, timeout, stop):
    """Exit status of a child (negative for a signal, None if it had to be killed after the timeout) and its time."""
    before = sum(os.times()[2:4])
    end, waiting = time.monotonic() + timeout, "after" in stop
    while time.monotonic() < end:
        if waiting and _used_time(child) >= stop["after"]:
            os.kill(child, stop["signal"])
            waiting = False
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), sum(os.times()[2:4]) - before
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None, 0.0


def _used_time(process):
    """Processor time of a process in seconds; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    serve()
