#!/usr/bin/env bash
# A publisher, an agent and sample changes on this machine, in a temporary directory.
#
#   run.sh [FOLDER OF THE PROGRAMS]     default: target/debug of this checkout
#
# Ends by Ctrl-C or, where RUN_SECONDS is set, after so many seconds, with exit status 0. Exit
# status 1 means that something that should have happened did not. Leaves nothing behind.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=$(cd "${1:-$here/../../target/debug}" && pwd)

# From a terminal, run as the foreground job of this shell: Ctrl-C then reaches this script only,
# not the `make` that started it, which would report an interrupt as a failure.
if [[ -t 0 && -z ${QUICKSTART_JOB:-} ]]; then
    set -m
    QUICKSTART_JOB=1 "$0" "$programs"
    exit
fi

limit=${RUN_SECONDS:-}
if [[ -n $limit && ! $limit =~ ^[0-9]{1,6}$ ]]; then
    echo "quickstart: RUN_SECONDS=$limit is not a whole number of seconds" >&2
    exit 2
fi

# Settings of another Fanfare on this machine are not meant for this one.
for variable in "${!FANFARE_@}" RUST_LOG; do
    unset "$variable"
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/fanfare-quickstart.XXXXXX")
parent=$PPID
agent='' publisher='' port='' printers=() workers=()

now_ms() {
    local micros=${EPOCHREALTIME//[!0-9]/}
    echo $((micros / 1000))
}
start=$(now_ms)

say() {
    printf '\n==> %s\n' "$*"
}

is_running() {
    [[ -n $1 ]] && kill -0 "$1" 2>/dev/null
}

# Whatever happens, nothing stays behind. The programs are our children, so their ids are ours
# until we have waited for them.
clean_up() {
    local pid
    for pid in "$agent" "$publisher" "${workers[@]}"; do
        if is_running "$pid"; then
            kill -KILL "$pid" 2>/dev/null || true
            wait "$pid" 2>/dev/null || true
        fi
    done
    exec 4>&-
    # They end by themselves when nobody writes to their pipe any more.
    for pid in "${printers[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap clean_up EXIT

fail() {
    echo "quickstart: $*" >&2
    exit 1
}

# Whether it is time to end: RUN_SECONDS are over, or whoever started us has gone.
is_over() {
    [[ -n $limit ]] && (($(now_ms) - start >= limit * 1000)) && return 0
    ! kill -0 "$parent" 2>/dev/null
}

# pause MILLISECONDS
pause() {
    local until=$(($(now_ms) + $1))
    while (($(now_ms) < until)); do
        if is_over; then
            finish
        fi
        sleep 0.05
    done
}

# within SECONDS WHAT COMMAND…: waits until COMMAND succeeds.
within() {
    local seconds=$1 what=$2
    local until=$(($(now_ms) + seconds * 1000))
    shift 2
    until "$@"; do
        (($(now_ms) < until)) || fail "after $seconds s it is still not so: $what"
        pause 50
    done
}

# Stops PROCESS NAME in order and gives its exit status.
stop() {
    local until=$(($(now_ms) + 5000)) status=0
    kill -TERM "$1" 2>/dev/null || true
    while is_running "$1"; do
        if (($(now_ms) > until)); then
            fail "$2 does not stop"
        fi
        sleep 0.05
    done
    wait "$1" || status=$?
    ((status == 0)) || fail "$2 ended with status $status"
}

rows() {
    sed 's/^/    /' "$dir/rows.json"
}

# The orderly end.
finish() {
    trap '' INT TERM HUP
    if [[ -n $agent ]]; then
        say "stopping"
        stop "$agent" fanfare-agent
        agent=''
    fi
    if [[ -n $publisher ]]; then
        stop "$publisher" fanfare-publisher
        publisher=''
    fi
    # Everything they said is to be shown before the rows.
    exec 4>&-
    local pid
    for pid in "${printers[@]}"; do
        wait "$pid" || true
    done
    printers=()
    if [[ -s $dir/rows.json ]]; then
        say "rows.json as the agent left it"
        rows
    fi
    exit 0
}
trap finish INT TERM HUP

# print NAME: a pipe NAME.out whose lines are kept in NAME.log and shown.
print() {
    mkfifo "$dir/$1.out"
    tee -a "$dir/$1.log" <"$dir/$1.out" | sed -u "s/^/$(printf '%-9s' "$1") | /" &
    printers+=($!)
}

# logged NAME TIMES TEXT: whether NAME has logged TEXT at least so many times.
logged() {
    local count
    count=$(grep -cF -- "$3" "$dir/$1.log" 2>/dev/null) || count=0
    ((count >= $2))
}

start_publisher() {
    "$programs/fanfare-publisher" --config "$here/publisher.toml" --set publisher_port="$port" \
        --set sync_port="$((port + 1))" --set publisher_multiproc_socket="$dir/publisher.sock" \
        --set state_dir="$dir/state" --set run_dir="$dir/run" 2>"$dir/publisher.out" 4>&- &
    publisher=$!
}

started_or_ended() {
    logged publisher "$1" "sends on" || ! is_running "$publisher"
}

# publish TEXT: one line of JSON, as an API worker does it; returns when it is acknowledged.
publish() {
    printf '%s\n' "$1" |
        "$programs/fanfare" publish --from - --socket "$dir/publisher.sock" 4>&- >"$dir/published" ||
        fail "not acknowledged: $1"
}

# publish_all FILE: its lines, slowly enough to be watched.
publish_all() {
    local line
    while IFS= read -r line; do
        publish "$line"
        pause 120
    done <"$1"
}

# Connected is not yet subscribed: publishes a row until it arrives.
probes=0
publish_probe() {
    publish "{\"table\": \"chassis\", \"key\": \"compute-1\", \"value\": {\"ip\": \"192.0.2.11\", \"seen\": $((++probes))}}"
    local until=$(($(now_ms) + 500))
    until logged agent "$1" "set table=chassis key=compute-1"; do
        (($(now_ms) < until)) || return 1
        pause 50
    done
}

has_row() {
    grep -qF -- "$1" "$dir/rows.json" 2>/dev/null
}

has_no_row() {
    ! has_row "$1"
}

# Jobs of each worker.
jobs=400

# work NUMBER: one API worker that publishes its jobs, a few hundred a second.
work() {
    local job
    for ((job = 1; job <= jobs; job++)); do
        printf '{"table": "job", "key": "%d-%d", "topic": "tenant-red", "value": {"n": %d}}\n' "$1" "$job" "$job"
        sleep 0.003
    done | "$programs/fanfare" publish --from - --socket "$dir/publisher.sock" --timeout 30 \
        4>&- >"$dir/worker-$1" 2>&1
}

count_jobs() {
    grep -oE '"[12]-[0-9]+"' "$dir/jobs.json" 2>/dev/null | sort -u | wc -l
}

at_least_jobs() {
    (($(count_jobs) >= $1))
}

has_all_jobs() {
    at_least_jobs $((2 * jobs))
}

print publisher
print agent
# The pipe of the publishers' log stays open from one to the next.
exec 4>"$dir/publisher.out"

say "a publisher on a free port of 127.0.0.1"
for ((attempt = 1; ; attempt++)); do
    # Below the ports that the system hands out by itself.
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    start_publisher
    within 10 "the publisher has started" started_or_ended 1
    if is_running "$publisher"; then
        break
    fi
    wait "$publisher" || true
    publisher=''
    ((attempt < 10)) || fail "no free port found"
done

say "an agent that follows it, with the handlers log and file"
(
    cd "$dir"
    exec "$programs/fanfare-agent" --config "$here/agent.toml" --set publisher_port="$port" \
        --set run_dir="$dir/run" --set state_dir="$dir/agent"
) 2>"$dir/agent.out" 4>&- &
agent=$!
within 10 "the agent is connected" logged agent 1 ": connected"
within 10 "a first row arrives" publish_probe 1

say "changes of three tenants; the agent asked for red and blue"
publish_all "$here/changes-1.jsonl"
within 5 "red-web-2 has moved to compute-1" has_row '"chassis": "compute-1", "enabled": true, "version": 2'
say "rows.json now"
rows

say "two workers publish $jobs jobs each; meanwhile kill -9 of the publisher, and a new one"
for number in 1 2; do
    work "$number" &
    workers+=($!)
done
within 10 "jobs arrive" at_least_jobs $((jobs / 5))
kill -KILL "$publisher"
wait "$publisher" 2>/dev/null || true
within 5 "the agent sees the loss" logged agent 1 "connection lost"
start_publisher
within 10 "the publisher has started again" started_or_ended 2
is_running "$publisher" || fail "the publisher did not start again"
within 10 "the agent is connected again" logged agent 2 ": connected"
for number in 1 2; do
    wait "${workers[number - 1]}" || fail "worker $number: not all was acknowledged"
    echo "    worker $number: $(cat "$dir/worker-$number")"
done
workers=()
within 20 "all $((2 * jobs)) jobs are there" has_all_jobs
echo "    jobs that the agent has: $(count_jobs), missing: none"
within 5 "the agent finds what it missed" logged agent 1 "events were missed"
if logged agent 2 "resync begins"; then
    fail "the handlers had to start over"
fi
echo "    what was sent while it was not connected came by replay; no handler started over"

say "an insert, two updates and a delete"
publish_all "$here/changes-2.jsonl"
within 5 "blue-db-2 is there" has_row '"blue-db-2"'
within 5 "net-blue has changed" has_row '"name": "blue", "mtu": 1450'
within 5 "red-web-2 is gone" has_no_row '"red-web-2"'
say "rows.json now"
rows

if [[ -z $limit ]]; then
    say "one change a second from here on; Ctrl-C ends it"
else
    say "one change a second until $limit s have passed"
fi
for ((version = 3; ; version++)); do
    enabled=$( ((version % 2)) && echo true || echo false)
    publish "{\"table\": \"lport\", \"key\": \"red-web-1\", \"topic\": \"tenant-red\", \"value\": {\"lswitch\": \"net-red\", \"macs\": [\"fa:16:3e:1a:00:01\"], \"ips\": [\"10.1.0.11\"], \"chassis\": \"compute-1\", \"enabled\": $enabled, \"version\": $version}}"
    pause 1000
done
