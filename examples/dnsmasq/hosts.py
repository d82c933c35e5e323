#!/usr/bin/env python3
"""Rows of the table `lport` as the hosts file of a dnsmasq, which is told to read it again.

    hosts.py HOSTS_FILE PID_FILE

A row such as {"macs": ["52:54:00:00:00:01"], "ips": ["10.1.0.5"], "name": "web-1"} becomes the line
`52:54:00:00:00:01,10.1.0.5,web-1`. Rows come from others: what does not look like an address is
refused, for a line break or a comma in it would be configuration.
"""

import ipaddress
import json
import os
import re
import signal
import sys

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)


def host(value):
    """The line of a row, or ValueError."""
    if not isinstance(value, dict):
        raise ValueError("the value is no object")
    macs, ips, name = value.get("macs"), value.get("ips"), value.get("name")
    if not (isinstance(macs, list) and isinstance(ips, list) and macs and ips):
        raise ValueError("macs and ips must be lists with something in them")
    if not all(isinstance(mac, str) and MAC.fullmatch(mac) for mac in macs):
        raise ValueError("a mac is none")
    addresses = [ipaddress.ip_address(ip) for ip in ips if isinstance(ip, str)]
    fields = macs + [str(ip) if ip.version == 4 else f"[{ip}]" for ip in addresses]
    if name is not None:
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise ValueError("the name is none")
        fields.append(name)
    return ",".join(fields)


class Hosts:
    def __init__(self, path, pid_file):
        self.path, self.pid_file = path, pid_file
        self.hosts = {}
        self.partial = None  # of an open resync
        self.written = None

    def apply(self, rows, line):
        rows.pop(line["key"], None)  # the old state is wrong in any case
        if line["action"] != "delete":
            rows[line["key"]] = host(line["value"])

    def handle(self, line):
        kind = line["type"]
        if kind == "begin_sync":
            self.partial = {}
        elif kind == "end_sync":
            self.hosts, self.partial = self.partial, None
        elif kind in ("row", "event"):
            self.apply(self.partial if kind == "row" else self.hosts, line)

    def write(self):
        text = "".join(line + "\n" for _, line in sorted(self.hosts.items()))
        if self.partial is not None or text == self.written:
            return
        with open(self.path + ".new", "w") as out:
            out.write(text)
        os.rename(self.path + ".new", self.path)
        self.written = text
        try:
            with open(self.pid_file) as pid:
                os.kill(int(pid.read()), signal.SIGHUP)
        except (OSError, ValueError) as error:
            # One that is not running reads the file when it starts.
            say("log", level="warn", message=f"dnsmasq was not told: {error}")


def say(kind, **fields):
    sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")


def main():
    hosts = Hosts(sys.argv[1], sys.argv[2])
    source, rest = sys.stdin.buffer.raw, b""
    while data := source.read(1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        done = None
        for line in map(json.loads, lines):
            if line["type"] == "hello":
                say("hello", protocol=1)
            elif line["type"] == "ping":
                say("pong", seq=line["seq"])
            else:
                try:
                    hosts.handle(line)
                except ValueError as error:
                    say("nack", seq=line["seq"], reason=str(error), retry=False)
                done = line["seq"]
        if done is not None:
            hosts.write()  # once for all that came together
            say("ack", seq=done)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
