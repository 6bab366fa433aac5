#!/bin/sh
# Start the stack with the arguments of `evergreen up`, and stay until it ends or is stopped.
set -eu
home="${EVERGREEN_HOME:?}${EVERGREEN_PROBLEM:+/problems/$EVERGREEN_PROBLEM}"
python -m flows.cli up "$@"
pid="$(cat "$home/run/supervisord.pid")"
trap 'python -m flows.cli down; exit 0' TERM INT
while kill -0 "$pid" 2>/dev/null; do
    sleep 2 &
    wait "$!" || true
done
echo "error: supervisord ($pid) ended by itself: see $home/logs/supervisord.log" >&2
exit 1
