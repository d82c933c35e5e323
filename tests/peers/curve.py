"""CurveZMQ's client by hand: what a node with keys can do that libzmq does not bind to its rules."""

import ctypes
import ctypes.util
import os
import socket
import struct

from zmq.utils import z85

sodium = ctypes.CDLL(ctypes.util.find_library("sodium"))
assert sodium.sodium_init() >= 0


def call(name, *arguments):
    assert getattr(sodium, name)(*arguments) == 0, name


def pair():
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    call("crypto_box_keypair", public, secret)
    return public.raw, secret.raw


class Box:
    """What the holders of two pairs say to each other."""

    def __init__(self, public, secret):
        self.key = ctypes.create_string_buffer(32)
        call("crypto_box_beforenm", self.key, public, secret)

    def seal(self, nonce, text):
        out = ctypes.create_string_buffer(len(text) + 16)
        length = ctypes.c_ulonglong(len(text))
        call("crypto_box_easy_afternm", out, text, length, nonce, self.key)
        return out.raw

    def open(self, nonce, sealed):
        out = ctypes.create_string_buffer(len(sealed) - 16)
        length = ctypes.c_ulonglong(len(sealed))
        call("crypto_box_open_easy_afternm", out, sealed, length, nonce, self.key)
        return out.raw


def key(folder, name):
    with open(os.path.join(folder, name)) as file:
        return z85.decode(file.read().strip().split(":", 1)[1].encode())


class Client:
    """A connection that was admitted; an OSError where it is not."""

    def __init__(self, port, kind, folder, node, address):
        self.stream = socket.create_connection(("127.0.0.1", port), 5, (address, 0))
        self.number = 0
        server = key(folder, "publisher.key")
        own = key(folder, node + ".key"), key(folder, node + ".key_secret")
        short = pair()
        self.stream.sendall((b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE").ljust(64, b"\0"))
        self.take(64)

        number = self.next()
        signature = Box(server, short[1]).seal(b"CurveZMQHELLO---" + number, bytes(64))
        self.command(b"\x05HELLO\x01\x00" + bytes(72) + short[0] + number + signature)

        welcome = self.answer(b"\x07WELCOME")
        opened = Box(server, short[1]).open(b"WELCOME-" + welcome[:16], welcome[16:])
        theirs, cookie = opened[:32], opened[32:]

        self.box = Box(theirs, short[1])
        long = os.urandom(16)
        vouch = Box(theirs, own[1]).seal(b"VOUCH---" + long, short[0] + server)
        about = b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        number = self.next()
        said = self.box.seal(b"CurveZMQINITIATE" + number, own[0] + long + vouch + about)
        self.command(b"\x08INITIATE" + cookie + number + said)

        ready = self.answer(b"\x05READY")
        self.box.open(b"CurveZMQREADY---" + ready[:8], ready[8:])

    def next(self):
        self.number += 1
        return struct.pack(">Q", self.number)

    def take(self, length):
        taken = b""
        while len(taken) < length:
            more = self.stream.recv(length - len(taken))
            if not more:
                raise ConnectionError("it is not let in")
            taken += more
        return taken

    def command(self, body):
        head = bytes([4, len(body)]) if len(body) < 256 else b"\x06" + struct.pack(">Q", len(body))
        self.stream.sendall(head + body)

    def answer(self, name):
        flags, length = self.take(2)
        body = self.take(length)
        if flags != 4 or not body.startswith(name):
            raise ConnectionError(f"it is told {body}")
        return body[len(name) :]

    def frame(self, flags, body):
        number = self.next()
        sealed = self.box.seal(b"CurveZMQMESSAGEC" + number, bytes([flags]) + body)
        text = b"\x07MESSAGE" + number + sealed
        head = bytes([0, len(text)]) if len(text) < 256 else b"\x02" + struct.pack(">Q", len(text))
        return head + text
