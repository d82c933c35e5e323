"""A node with keys that was taken over, and that libzmq does not bind to its rules: it does CurveZMQ's handshake
by hand, and then sends one message of ever more frames.

    endless.py PORT KIND KEYS NODE SIZE

KIND is that of its socket (SUB, DEALER), KEYS the folder of the publisher's key and of the node's pair, SIZE the
length of a frame. It ends when it is cut off, is not let in again, and is not heard on another connection that it
had before, and says how much it has sent; otherwise it fails.
"""

import random
import sys

import curve

# More than any bound, and little enough to be sent soon.
ENOUGH = 512 << 20
MORE = 1

def main():
    port, kind, folder, node, size = sys.argv[1:6]
    # Not that of others, from whom it could not be told before it has said anything.
    address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    stored = curve.Client(int(port), kind.encode(), folder, node, address)
    client = curve.Client(int(port), kind.encode(), folder, node, address)
    body, sent = bytes(int(size)), 0
    try:
        while sent < ENOUGH:
            piece = b"".join(client.frame(MORE, body) for _ in range(64))
            client.stream.sendall(piece)
            sent += len(piece)
        sys.exit(f"{sent} bytes were taken")
    except OSError as error:
        # It may be one that is just not read from any more.
        print(f"{sent} bytes, then {error}")
    try:
        while client.stream.recv(4096):
            pass
    except ConnectionResetError:
        pass
    try:
        curve.Client(int(port), kind.encode(), folder, node, address)
        sys.exit("it is let in again")
    except OSError:
        # Who is refused may stay connected for as long as a handshake may take, without an answer.
        print("kept out")
    try:
        stored.stream.sendall(stored.frame(0, b"\x01t1\0"))
        while stored.stream.recv(4096):
            pass
    except ConnectionResetError:
        pass
    print("and not heard")


main()
