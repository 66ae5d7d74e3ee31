"""Sending and receiving a stream over UDP on this machine."""

import signal
import socket
import subprocess
import sys
import time

import pytest
from cli_helpers import vqasr

from vqasr import Stream, StreamReader
from vqasr.assets import CLIPS
from vqasr.compression.compress import compress
from vqasr.stream.packets import datagrams


@pytest.fixture(scope="module")
def talk(codec, tmp_path_factory):
    path = tmp_path_factory.mktemp("talk") / "talk.vqs"
    clip = CLIPS / "clip01_af_heart.flac"
    compress(clip, codec=codec, bps=300, chunk_frames=5).cut(0, 2.5).save(path)
    return path


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        return line.getsockname()[1]


def start(*arguments: object) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "vqasr", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "listening" in process.stderr.readline()
    return process


def test_what_is_sent_arrives(talk, tmp_path) -> None:
    port = free_port()
    receiver = start("receive", f"127.0.0.1:{port}", "-o", tmp_path / "heard.vqs")
    sent = vqasr("send", talk, f"127.0.0.1:{port}")
    _, errors = receiver.communicate(timeout=60)
    assert receiver.returncode == 0
    assert (tmp_path / "heard.vqs").read_bytes() == talk.read_bytes()
    assert "13 chunks, 0 lost" in errors
    # 13 chunks and two copies of the last, and the header every second.
    assert "18 datagrams" in sent.stderr
    size = int(sent.stderr.split(", ")[1].split()[0])
    assert f"{8 * size / (13 * 0.2):.0f} bps" in sent.stderr


def test_from_a_pipe_to_a_pipe(talk, tmp_path) -> None:
    port = free_port()
    receiver = subprocess.Popen(
        [sys.executable, "-m", "vqasr", "receive", f"127.0.0.1:{port}", "-o", "-"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert b"listening" in receiver.stderr.readline()
    vqasr("send", "-", f"127.0.0.1:{port}", "--copies", 2, stdin=talk.read_bytes())
    assert receiver.communicate(timeout=60)[0] == talk.read_bytes()


def test_refused(talk, tmp_path) -> None:
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "x.vqs").write_bytes(b"older")
    nothing = vqasr("receive", address, "-o", tmp_path / "x.vqs", "--timeout-s", 0.2, ok=False)
    assert (tmp_path / "x.vqs").read_bytes() == b"older"
    assert f"no stream came in on {address} within 0.2 s" in nothing.stderr
    for wrong in ("localhost", "localhost:0", "localhost:70000", "localhost:port"):
        assert "give HOST:PORT" in vqasr("send", talk, wrong, ok=False).stderr
    assert "the host is not known" in vqasr("send", talk, "no.invalid:5004", ok=False).stderr
    assert "No such file" in vqasr("send", tmp_path / "none.vqs", address, ok=False).stderr
    assert "standard input is empty" in vqasr("send", "-", address, ok=False).stderr


def test_the_end_is_missing(talk, tmp_path) -> None:
    port = free_port()
    cut = tmp_path / "cut.vqs"
    cut.write_bytes(talk.read_bytes()[:-30])
    receiver = start("receive", f"127.0.0.1:{port}", "-o", tmp_path / "heard.vqs", "--timeout-s", 1)
    assert "ends before its last chunk" in vqasr("send", cut, f"127.0.0.1:{port}", ok=False).stderr
    _, errors = receiver.communicate(timeout=60)
    assert receiver.returncode == 1
    assert "the end of the stream is missing" in errors
    assert Stream.load(tmp_path / "heard.vqs", partial=True).frames >= 50


def test_ctrl_c_ends_a_pipeline_at_its_head(talk) -> None:
    """The recorder ends the stream, which `send` still sends to its end."""
    data = talk.read_bytes()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        line.settimeout(60)
        sender = subprocess.Popen(
            [sys.executable, "-m", "vqasr", "send", "-", f"127.0.0.1:{line.getsockname()[1]}"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        sender.stdin.write(data[: len(data) // 2])
        line.recv(65_536)
        sender.send_signal(signal.SIGINT)
        time.sleep(0.2)
        sender.stdin.write(data[len(data) // 2 :])
        _, errors = sender.communicate(timeout=60)
    assert sender.returncode == 0
    assert b"datagrams" in errors


def test_what_waits_is_written_at_the_end(talk, tmp_path) -> None:
    port = free_port()
    receiver = start(
        "receive", f"127.0.0.1:{port}", "-o", tmp_path / "heard.vqs", "--wait-s", 30,
        "--timeout-s", 1,
    )  # fmt: skip
    with talk.open("rb") as file, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for number, (_, sent) in enumerate(datagrams(StreamReader(file))):
            for data in sent if number != 4 else ():
                line.sendto(data, ("127.0.0.1", port))
    _, errors = receiver.communicate(timeout=60)
    assert receiver.returncode == 0, errors
    assert "12 chunks, 1 lost" in errors
    assert Stream.load(tmp_path / "heard.vqs", partial=True).lost_frames == 5


def test_names_that_are_none(talk) -> None:
    name = f"{'a' * 70}.b:5999"
    assert "the host is not known" in vqasr("send", talk, name, ok=False).stderr
