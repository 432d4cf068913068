"""The server as a process: it starts, predicts over a socket, and leaves nothing behind however it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import bad_files as bad
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def start(run_of, tmp_path, repository):
    """Start the server of a run: `start("amd", "--port", "0")` gives the process and its address."""
    processes = []

    def call(system, *words, wait=True):
        environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(repository / "src")}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "seewhy", "serve", f"run={run_of(system)[0]}", "--device", "cpu", *words]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        if not wait:
            return process, None
        for line in process.stdout:
            if found := re.search(r"at (http://\S+);", line):
                return process, found[1]
        raise AssertionError(process.stderr.read())

    yield call
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def post(address, name, content):
    body = b'--x\r\nContent-Disposition: form-data; name="mnv"; filename="%s"\r\n\r\n' % name.encode()
    body += content + b'\r\n--x\r\nContent-Disposition: form-data; name="method"\r\n\r\nnone\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/predict", body, headers), timeout=60) as answer:
        return json.load(answer)


def temporary(folder):
    return list(folder.glob("seewhy-*"))


@pytest.mark.parametrize(
    ("sent", "status", "line"), [(signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGINT, 0, "ended by Ctrl-C")]
)
def test_it_predicts_and_ends_with_one_line(start, tmp_path, sent, status, line):
    process, address = start("amd", "--port", "0")
    assert address.startswith("http://127.0.0.1:")
    assert post(address, "eye.png", bad.png())["id"] == "eye"
    [folder] = temporary(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    process.send_signal(sent)
    if sent == signal.SIGINT:
        time.sleep(0.2)
        process.send_signal(sent)  # by someone who is impatient
    assert process.wait(30) == status
    said = [text for text in (process.stdout.read() + process.stderr.read()).splitlines() if text.strip()]
    assert len(said) == 1
    assert line in said[0]
    assert temporary(tmp_path) == []


def test_uploads_of_a_killed_server_are_removed_by_the_next(start, tmp_path):
    process, address = start("amd", "--port", "0")
    host, port = re.fullmatch(r"http://(.+):(\d+)", address).groups()
    with socket.create_connection((host, int(port))) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        part = '--x\r\nContent-Disposition: form-data; name="mnv"; filename="a.png"\r\n\r\n'
        connection.sendall(head.encode() + part.encode() + bytes(4 << 20))
        time.sleep(0.5)
        process.kill()
        process.wait()
    [left] = temporary(tmp_path)
    (left / "uploads" / "case-1").mkdir()
    (left / "uploads" / "case-1" / "patient.png").write_bytes(bad.png())  # as of a case that was predicted
    _, address = start("amd", "--port", "0")
    assert not left.exists()
    assert len(temporary(tmp_path)) == 1
    assert post(address, "eye.png", bad.png())["id"] == "eye"


def test_a_port_in_use_and_a_public_address_are_said(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process, _ = start("amd", "--port", str(taken.getsockname()[1]), wait=False)
        assert process.wait(60) == 1
        [line] = process.stderr.read().splitlines()
        assert "cannot listen" in line
        assert "--port 0" in line
    process, _ = start("amd", "--port", "0", "--host", "0.0.0.0", wait=False)
    first = process.stdout.readline()
    assert "warning" in first
    assert "no password" in first


def test_a_missing_package_is_named(run_of, tmp_path):
    code = "import sys; sys.modules['fastapi'] = None; from seewhy.cli.main import main; main(['serve', 'run=x'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "pip install 'seewhy[serve]'" in line
