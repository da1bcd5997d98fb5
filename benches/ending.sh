#!/usr/bin/env bash
# How long the end takes with many sessions: from SIGTERM until the process is gone.
#
#   cargo build --release --bins && sudo benches/ending.sh [-n SESSIONS] [-c] [-d DIRECTORY] [OPTIONS OF vxtap run]
#
# Each session, which is a VNI, gets three datagrams. With -c SIGUSR1 cuts all files, each session gets three datagrams more, and SIGUSR1 and SIGTERM come
# at once: twice as many files are under way then. DIRECTORY is where captures go, by default one in memory.
# The kernel drops none of them as a burst is as large as the receive buffer. VXTAP names another program than target/release/vxtap.
set -euo pipefail
cd "$(dirname "$0")/.."
sessions=65536 cut= rest= directory=
while getopts n:crd: option; do case $option in n) sessions=$OPTARG ;; c) cut=1 ;; r) rest=1 ;; d) directory=$OPTARG ;; *) exit 2 ;; esac done
shift $((OPTIND - 1))
. benches/pair.sh ending

captures=${directory:-$work}/captures-$$
log=$work/vxtap.log
ip netns exec $receive "$vxtap" run --write "$captures" --max-sessions "$sessions" --rotate-time 1d --ledger none --receive-buffer 256MiB "$@" 2>"$log" &
sensor=$!
until grep -qs receiving "$log"; do kill -0 $sensor || { cat "$log"; exit 1; }; sleep 0.05; done
parts() { find "$captures" -name '*.part' | wc -l; }
feed() {
  # Three times through all VNIs: a file of three datagrams is whatever comes of fixtures/demo/web.pcap.
  local loops=$(((3 * sessions + 378) / 379))
  ip netns exec $send "$vxtap" replay fixtures/demo/web.pcap --to 10.99.0.2 --vni "1-$sessions" --rate 20000 --loop $loops >/dev/null
  [ ! "$rest" ] || until [ "$(parts)" -ge "$sessions" ]; do sleep 0.5; done
}
now() { date +%s%N; }
date +%T >&2; feed; date +%T >&2
if [ "$cut" ]; then
  kill -USR1 $sensor
  feed
  kill -USR1 $sensor
fi
memory=$(awk '/VmRSS/ { printf "%d", $2 / 1024 }' /proc/$sensor/status)
begin=$(now)
kill $sensor
status=0
wait $sensor || status=$?
end=$(now)
awk -v ms=$(((end - begin) / 1000000)) -v files="$(find "$captures" -name '*.pcap*' ! -name '*.part' | wc -l)" -v memory="$memory" -v status=$status \
  'BEGIN { printf "%d files, %.1f s, exit status %d, %d MiB before\n", files, ms / 1000, status, memory }'
[ $status = 0 ] || tail -n 5 "$log"
date +%T >&2; rm -rf "$captures"; date +%T >&2
