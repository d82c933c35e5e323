"""Says when a processor was taken away by the host that a virtual machine runs on, until it is killed.

    witness.py PROCESSOR

It sleeps a millisecond again and again, at a priority that nothing else on the machine has: if it wakes late,
the machine had no processor. Says "watching", or "SKIPPED: " and why; then a line of JSON for each such time.
"""

import json
import os
import sys
import time

NAP = 0.001
# What it may be late, by the system's own doing.
LATE = 0.0005


def main():
    os.sched_setaffinity(0, {int(sys.argv[1])})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except PermissionError as why:
        print(f"SKIPPED: {why}", flush=True)
        return
    parent = os.getppid()
    print("watching", flush=True)
    # Nobody needs it when whoever started it has been killed.
    while os.getppid() == parent:
        before = time.time()
        time.sleep(NAP)
        after = time.time()
        if after - before > NAP + LATE:
            print(json.dumps({"from": before + NAP, "until": after}), flush=True)


if __name__ == "__main__":
    main()
