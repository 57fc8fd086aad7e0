"""Memory that idle connections hold, each after one request."""

import socket
import time

from .measure import Bench
from .process import note, raise_limit
from .proxy import Misbehaves, Proxy, unverified
from .scenario import Scenario
from .setup import Refused

ADDRESSES = 20  # one client may hold 1000 connections by default
ANSWER = 128
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n\r\n"


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
        ask(client)
    for client in clients:
        client.close()
    return {
        "connections": count, "rss_before_kib": before, "rss_after_kib": after,
        "kib_per_connection": (after - before) / count,
    }


def connect(proxy: Proxy, number: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), 10, (f"127.0.0.{2 + number % ADDRESSES}", 0))
    if proxy.scenario.request.tls:
        client = unverified().wrap_socket(client)
    ask(client)
    return client


def ask(client: socket.socket) -> None:
    client.sendall(REQUEST)
    answer = b""
    while len(answer.partition(b"\r\n\r\n")[2]) < ANSWER:
        piece = client.recv(4096)
        if not piece:
            raise Misbehaves("an idle connection was closed")
        answer += piece
