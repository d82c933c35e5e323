#!/usr/bin/python3
"""A publisher that knows nothing of Fanfare: the wire of Dragonflow's ZeroMQ driver.

Two frames, the topic and a MessagePack map with the keys table, key, action, value, topic.

    publisher.py [--type xpub|pub|push] [--connect] [--hwm N] URI

It takes one JSON object a line on standard input and answers on standard output, also one JSON
object a line:

    {"op": "event", "table": …, "key": …, "action": …, "value": …, "topic": …,
     "envelope": …, "spec": "old" | "new", "bin": true, "extra": {…}}
    {"op": "raw", "frames": ["<hex>", …]}
    {"op": "series", "topics": [topic, …], "count": N, "spec": …}
                                        N events, the topics in turn; key k<n>, value {"n": n, "topic": topic}
    {"op": "load", "topic": …, "name": …, "rate": N}
                                        N events a second from now on; key <name>-<n>
    {"op": "halt"}                      ends the load: {"halted": <events of it>}

Without being asked: {"ready": uri}, and from an xpub {"subscribed": topic, "sent": <events of the
load so far>} and {"unsubscribed": topic}, topics in latin-1. It ends with its standard input.
"""

import argparse
import json
import os
import sys
import time

import msgpack
import zmq


def answer(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def pack(event, spec):
    """spec "old": no str8 and no bin, as writers before MessagePack 2013 do it."""
    return msgpack.packb(event, use_bin_type=(spec != "old"))


class Publisher:
    def __init__(self, options):
        self.context = zmq.Context()
        kind = {"xpub": zmq.XPUB, "pub": zmq.PUB, "push": zmq.PUSH}[options.type]
        self.reports = options.type == "xpub"
        self.socket = self.context.socket(kind)
        self.socket.set_hwm(options.hwm)
        self.socket.setsockopt(zmq.LINGER, 2000)
        self.socket.setsockopt(zmq.IPV6, 1 if "[" in options.uri else 0)
        if options.uri.startswith("epgm"):
            self.socket.setsockopt(zmq.RATE, 100000)
        if self.reports:
            # Every subscription is reported, not only the first to a topic.
            self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        if options.connect:
            self.socket.connect(options.uri)
        else:
            self.socket.bind(options.uri)
        self.load = None
        self.load_sent = 0

    def event(self, command):
        event = {name: command.get(name) for name in ("table", "key", "action", "value", "topic")}
        if command.get("bin"):
            event = {name: text and text.encode() for name, text in event.items()}
        event.update(command.get("extra", {}))
        envelope = command.get("envelope") or command.get("topic") or "D"
        self.socket.send_multipart([envelope.encode(), pack(event, command.get("spec"))])

    def numbered(self, table, key, topic, value, spec=None):
        self.event({
            "table": table, "key": key, "action": "set", "topic": topic, "spec": spec,
            "value": json.dumps(value),
        })

    def series(self, command):
        topics = command["topics"]
        for number in range(command["count"]):
            topic = topics[number % len(topics)]
            value = {"n": number, "topic": topic}
            self.numbered("series", "k%d" % number, topic, value, command.get("spec"))

    def drive_load(self):
        """Sends what is due; gives the milliseconds until more is."""
        if self.load is None:
            return None
        rate = self.load["rate"]
        due = int((time.monotonic() - self.load["start"]) * rate)
        # Where the other side is slow, commands are to be heard all the same.
        due = min(due, self.load_sent + 500)
        while self.load_sent < due:
            key = "%s-%d" % (self.load["name"], self.load_sent)
            value = {"n": self.load_sent, "at": time.time()}
            self.numbered("load", key, self.load["topic"], value)
            self.load_sent += 1
        return max(1, int(1000 / rate))

    def obey(self, command):
        op = command["op"]
        if op == "event":
            self.event(command)
        elif op == "raw":
            self.socket.send_multipart([bytes.fromhex(frame) for frame in command["frames"]])
        elif op == "series":
            self.series(command)
        elif op == "load":
            self.load, self.load_sent = dict(command, start=time.monotonic()), 0
        elif op == "halt":
            self.load = None
            answer(halted=self.load_sent)
        else:
            raise ValueError(op)

    def report(self):
        while self.reports and self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            message = self.socket.recv()
            topic = message[1:].decode("latin-1")
            if message[:1] == b"\x01":
                answer(subscribed=topic, sent=self.load_sent)
            else:
                answer(unsubscribed=topic)

    def run(self):
        poller = zmq.Poller()
        poller.register(0, zmq.POLLIN)
        if self.reports:
            poller.register(self.socket, zmq.POLLIN)
        rest = b""
        while True:
            ready = dict(poller.poll(self.drive_load()))
            self.report()
            if 0 in ready:
                data = os.read(0, 1 << 16)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
        self.socket.close()
        self.context.term()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--type", choices=["xpub", "pub", "push"], default="xpub")
    parser.add_argument("--connect", action="store_true")
    parser.add_argument("--hwm", type=int, default=0)
    parser.add_argument("uri")
    options = parser.parse_args()
    publisher = Publisher(options)
    answer(ready=options.uri)
    publisher.run()


main()
