#!/bin/sh
# A child for `module = "pipe"` in plain shell: keeps a journal of what it is told.
#
#     [[handler]]
#     module = "pipe"
#     command = ["/bin/sh", "/usr/local/lib/fanfare/handler.sh", "/run/journal.jsonl"]
#
# The journal begins with all rows as the last resync gave them; the events since then follow. A
# line begins with "type" and "seq", in this order, so it can be told apart without reading JSON.
# Never put a part of a line into eval or into the text of another command.
set -eu
journal=$1

answer() { printf '{"type":"%s","seq":%s}\n' "$1" "$seq"; }

while IFS= read -r line; do
    seq=${line#*'"seq":'}
    seq=${seq%%[!0-9]*}
    case $line in
    '{"type":"hello",'*)
        echo '{"type":"hello","protocol":1}'
        ;;
    '{"type":"ping",'*)
        answer pong
        ;;
    '{"type":"begin_sync",'*)
        : >"$journal.new"
        answer ack
        ;;
    '{"type":"row",'*)
        printf '%s\n' "$line" >>"$journal.new"
        answer ack
        ;;
    '{"type":"end_sync",'*)
        mv "$journal.new" "$journal"
        answer ack
        ;;
    '{"type":"event",'*)
        printf '%s\n' "$line" >>"$journal"
        answer ack
        ;;
    *) ;; # a later version of the protocol may say more
    esac
done
