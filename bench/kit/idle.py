"""Memory that idle connections hold, each after one request."""

import socket
import struct
import time

from .measure import Bench
from .process import note, raise_limit
from .proxy import Misbehaves, Proxy, unverified
from .scenario import Scenario
from .setup import Refused

ADDRESSES = 20  # one client may hold 1000 connections by default
ANSWER = 128
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n\r\n"

# HTTP/2 as frames (RFC 9113 §4.1): length, kind, flags, stream.
DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
# :method GET, :scheme https and :path / from the static table, :authority bench (RFC 7541).
ASKING = bytes((0x82, 0x87, 0x84, 0x41, 5)) + b"bench"


def measure_idle(bench: Bench, scenario: Scenario) -> dict:
    """Every program by itself, one after the other."""
    result: dict = {"programs": {}, "missing": {}}
    for variant in scenario.without:
        reason = bench.takes_part(variant)
        if not reason:
            try:
                with bench.running(variant, scenario) as proxy:
                    result["programs"][variant] = hold(proxy, scenario.connections)
                note(f"{scenario.name}: {variant}: {result['programs'][variant]['kib_per_connection']:.1f} KiB")
            except (Refused, Misbehaves, OSError) as problem:
                reason = str(problem)
                note(f"{scenario.name}: {variant} is left out: {reason}")
        if reason:
            result["missing"][variant] = reason
    return result


def hold(proxy: Proxy, wanted: int) -> dict[str, float]:
    """Resident memory two seconds after the last of so many connections, less what it was before the first."""
    count = min(wanted, raise_limit() - 100)
    for number in range(ADDRESSES):
        connect(proxy, number).close()
    time.sleep(0.5)
    before = proxy.rss()
    clients = [connect(proxy, number) for number in range(count)]
    time.sleep(2)
    after = proxy.rss()
    for client in clients[:: max(1, count // 100)]:
        ask(client, proxy, 3)
    for client in clients:
        client.close()
    return {
        "connections": count, "rss_before_kib": before, "rss_after_kib": after,
        "kib_per_connection": (after - before) / count,
    }


def connect(proxy: Proxy, number: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), 10, (f"127.0.0.{2 + number % ADDRESSES}", 0))
    if proxy.scenario.request.tls:
        protocols = ("h2",) if proxy.scenario.request.http2 else ()
        client = unverified(*protocols).wrap_socket(client)
    if proxy.scenario.request.http2:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
    ask(client, proxy, 1)
    return client


def ask(client: socket.socket, proxy: Proxy, stream: int) -> None:
    if proxy.scenario.request.http2:
        ask_stream(client, stream)
        return
    client.sendall(REQUEST)
    answer = b""
    while len(answer.partition(b"\r\n\r\n")[2]) < ANSWER:
        piece = client.recv(4096)
        if not piece:
            raise Misbehaves("an idle connection was closed")
        answer += piece


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def ask_stream(client: socket.socket, stream: int) -> None:
    """One request on a stream of its own, and its answer to the end."""
    client.sendall(frame(HEADERS, END_HEADERS | END_STREAM, stream, ASKING))
    while True:
        head = exactly(client, 9)
        kind, flags, on = head[3], head[4], struct.unpack(">I", head[5:])[0]
        exactly(client, int.from_bytes(head[:3], "big"))
        if kind == SETTINGS and not flags & ACK:
            client.sendall(frame(SETTINGS, ACK, 0, b""))
        if kind == GOAWAY:
            raise Misbehaves("an idle connection was ended")
        if kind in (DATA, HEADERS) and on == stream and flags & END_STREAM:
            return


def exactly(client: socket.socket, length: int) -> bytes:
    read = b""
    while len(read) < length:
        piece = client.recv(length - len(read))
        if not piece:
            raise Misbehaves("an idle connection was closed")
        read += piece
    return read
