#!/usr/bin/env python3
"""A child for `module = "pipe"`: keeps the rows in memory and writes them to a JSON file.

    [[handler]]
    module = "pipe"
    command = ["/usr/bin/python3", "/usr/local/lib/fanfare/handler.py", "/run/rows.json"]

To make it yours, change what `Rows.write` does. docs/handlers.md describes the protocol.
"""

import json
import os
import sys


class Rows:
    """What the agent told, `{table: {key: value}}`."""

    def __init__(self, path):
        self.path = path
        self.rows = {}
        self.partial = None  # the rows of an open resync

    def begin_sync(self, line):
        self.partial = {}  # what does not follow is gone

    def end_sync(self, line):
        self.rows, self.partial = self.partial, None

    def row(self, line):
        self.change(self.partial, line)

    def event(self, line):
        self.change(self.rows, line)

    def change(self, rows, line):
        table = rows.setdefault(line["table"], {})
        if line["action"] == "delete":
            table.pop(line["key"], None)
        elif line["value"] == "refuse":
            # A row that cannot be used. Without "retry": false it would be given again later.
            answer("nack", line["seq"], reason="this value is refused", retry=False)
        else:
            table[line["key"]] = line["value"]

    def write(self):
        if self.partial is None:  # else what is there is better than a part
            with open(self.path + ".new", "w") as out:
                json.dump({t: rows for t, rows in self.rows.items() if rows}, out)
            os.rename(self.path + ".new", self.path)


def answer(kind, seq=None, **more):
    sys.stdout.write(json.dumps({"type": kind, "seq": seq, **more}) + "\n")


def main():
    rows = Rows(sys.argv[1])
    # Unbuffered: a read gives what is there and does not wait for more.
    source, rest = sys.stdin.buffer.raw, b""
    while data := source.read(1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        done = None
        for line in map(json.loads, lines):
            if line["type"] == "hello":
                answer("hello", protocol=1)
            elif line["type"] == "ping":
                answer("pong", line["seq"])
            else:
                getattr(rows, line["type"])(line)
                done = line["seq"]
        # One write for all that came together; only then is it acknowledged.
        if done is not None:
            rows.write()
            answer("ack", done)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
