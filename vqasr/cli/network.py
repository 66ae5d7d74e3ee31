"""Define the commands send and receive."""

import contextlib
import math
import socket
import time
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from vqasr.cli import options
from vqasr.cli.inputs import STANDARD, open_stream
from vqasr.cli.options import app, err, error_context, example, load_prior, shown
from vqasr.cli.outputs import check_outputs, create_live
from vqasr.errors import VqasrError

UDP = socket.SOCK_DGRAM
LARGEST_DATAGRAM = 65_536
LONGEST_WAIT_S = 3600.0  # of the system's; longer ones are made of several
Address = Annotated[str, Argument(help="HOST:PORT, as in 127.0.0.1:5004 or [::1]:5004.")]


@app.command(
    epilog=example(
        "vqasr encode - -o - --bps 400 | vqasr send - 192.0.2.7:5004",
        "vqasr send talk.vqs localhost:5004",
    )
)
def send(
    stream: Annotated[Path, Argument(help="A .vqs stream with short chunks, or - for stdin.")],
    address: Address,
    copies: Annotated[
        int,
        Option(
            help="Chunks before its own that each datagram holds too: with 1, a chunk is lost only "
            "if two neighbouring datagrams are.",
            min=0,
            max=8,
        ),
    ] = 0,
    prior: options.Prior = None,
) -> None:
    """Send a stream over UDP, each chunk in a datagram.

    A file is sent at the pace of the speech, standard input as it comes in. Chunks are not sent
    again: those that are lost on the way are missing (vqasr receive), but for --copies.
    """
    from vqasr.stream.packets import IP_AND_UDP_BYTES, datagrams
    from vqasr.stream.reader import StreamReader

    family, target = _resolve(address)
    count = size = 0
    with error_context(stream), open_stream(stream) as file, socket.socket(family, UDP) as line:
        reader = StreamReader(file, prior=load_prior(prior))
        begun_s, end_s = time.monotonic(), 0.0
        for end_s, sent in datagrams(reader, copies):
            if str(stream) != STANDARD:  # a file must not flood the line
                time.sleep(max(0.0, begun_s + end_s - reader.header.chunk_s - time.monotonic()))
            for data in sent:
                line.sendto(data, target)
                count, size = count + 1, size + len(data) + IP_AND_UDP_BYTES
    err.print(
        f"{count} datagrams, {size} bytes with headers of IP and UDP, "
        f"{8 * size / max(end_s, 1e-9):.0f} bps",
        highlight=False,
    )


@app.command(
    epilog=example(
        "vqasr receive 0.0.0.0:5004 -o talk.vqs",
        "vqasr receive :5004 -o - | vqasr decode - -o - | aplay",
        "vqasr receive :5004 -o - | vqasr transcribe - --live",
    )
)
def receive(
    address: Annotated[str, Argument(help="HOST:PORT to listen on; without HOST on all.")],
    output: Annotated[
        Path, Option("-o", "--output", help="The .vqs file to write, or - for standard output.")
    ],
    wait_s: Annotated[
        float,
        Option(
            help="Longest time to wait for a chunk after later ones have come.",
            min=0.0,
            callback=options.no_nan,
        ),
    ] = 0.1,
    timeout_s: Annotated[
        float,
        Option(
            help="End when nothing has come for this time; inf waits for ever.",
            min=0.1,
            callback=options.no_nan,
        ),
    ] = 10.0,
    prior: options.Prior = None,
    force: options.Force = False,
) -> None:
    """Receive a stream over UDP: put its chunks in order and write them as they come in.

    Chunks that do not come in time are missing in the stream; its readers fill them in as lost
    frames. One stream is received; it ends with its last chunk or Ctrl-C.
    """
    from vqasr.stream.packets import Receiver
    from vqasr.stream.writer import write_all

    check_outputs([output], [], ".vqs", force)
    family, target = _resolve(address)
    receiver, file = Receiver(wait_s, load_prior(prior)), None
    with socket.socket(family, UDP) as line, contextlib.ExitStack() as opened:
        line.bind(target)
        err.print(f"listening on {shown(address)}")
        quiet_s = time.monotonic() + timeout_s

        def write(data: bytes) -> None:
            nonlocal file
            if data:
                # Not earlier: an older file stays if nothing comes.
                file = file or opened.enter_context(create_live(output))
                write_all(file, data)
                file.flush()

        with contextlib.suppress(KeyboardInterrupt):
            while not receiver.ended and (now_s := time.monotonic()) < quiet_s:
                until_s = min(quiet_s, receiver.due_s() or quiet_s, now_s + LONGEST_WAIT_S)
                line.settimeout(max(1e-3, until_s - now_s))
                try:
                    datagram = line.recv(LARGEST_DATAGRAM)
                except TimeoutError:
                    write(receiver.poll(time.monotonic()))
                else:
                    quiet_s = time.monotonic() + timeout_s
                    write(receiver.feed(datagram, time.monotonic()))
        write(receiver.poll(math.inf))  # what waits for chunks that will not come
    counts = receiver.counts
    err.print(
        f"{counts.written} chunks, {counts.lost} lost, {counts.unused} copies or late, "
        f"{counts.damaged} other datagrams, {counts.bytes} bytes with headers of IP and UDP",
        highlight=False,
    )
    if not counts.written:
        raise VqasrError(f"no stream came in on {address} within {timeout_s:g} s.")
    if not receiver.ended:
        raise VqasrError(f"{output}: the end of the stream is missing; what came is written.")


def _resolve(address: str) -> tuple[int, Any]:
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise VqasrError(f"{address}: give HOST:PORT with a port from 1 to 65535.")
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", int(port), type=UDP)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no name of a host"
        raise VqasrError(f"{address}: the host is not known ({reason}).") from error
    return found[0][0], found[0][4]
