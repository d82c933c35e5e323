#!/usr/bin/python3
"""A subscriber that knows nothing of Fanfare: the wire of Dragonflow's ZeroMQ driver.

    subscriber.py URI TOPIC-IN-HEX …

It subscribes to the topics as to prefixes and prints each message as one JSON object a line:
{"topic": <frame 0 in latin-1>, "frames": N, "event": {…}}. {"ready": uri} comes first. It ends with
its standard input.
"""

import json
import os
import sys

import msgpack
import zmq


def main():
    uri, topics = sys.argv[1], sys.argv[2:]
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.set_hwm(0)
    socket.setsockopt(zmq.LINGER, 0)
    for topic in topics:
        socket.setsockopt(zmq.SUBSCRIBE, bytes.fromhex(topic))
    socket.connect(uri)
    print(json.dumps({"ready": uri}), flush=True)
    poller = zmq.Poller()
    poller.register(0, zmq.POLLIN)
    poller.register(socket, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        while socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            frames = socket.recv_multipart()
            event = msgpack.unpackb(frames[1], raw=False)
            print(json.dumps({
                "topic": frames[0].decode("latin-1"), "frames": len(frames), "event": event,
            }, default=bytes.hex))
        sys.stdout.flush()
        if 0 in ready and not os.read(0, 1 << 16):
            break
    socket.close()
    context.term()


main()
