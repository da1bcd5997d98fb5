#!/usr/bin/env bash
# Measures how long the end takes with many sessions: from SIGTERM until the process is gone.
#
#   cargo build --release --bins
#   sudo benches/ending.sh [-n SESSIONS] [-r] [-c] [-k] [-d DIRECTORY] [-- OPTIONS OF vxtap run]
#
# Each session, which is a VNI, gets three datagrams or four. SIGTERM comes when the last is sent, so
# that the end has to make files that are still missing.
#
# -r  The sensor rests first until all files are there. Of more than 256 compressed files, those that
#     rest for 10 s are complete by then.
# -c  SIGUSR1 cuts all files, each session gets as many datagrams again, and SIGUSR1 and SIGTERM come
#     at once: more files than sessions are under way then.
# -d  Captures go to DIRECTORY, by default one in memory.
# -k  Keeps them. Whenever ext4 without a journal makes a file or directory, it passes by each inode
#     that was freed in the last five minutes. So a run right after one that removed its captures
#     measures that.
#
# VXTAP names another program than target/release/vxtap. The machine has to be quiet: processor
# seconds of the end are printed beside its duration.
set -euo pipefail
cd "$(dirname "$0")/.."
sessions=65536 cut= rest= keep= directory=
while getopts n:crkd: option; do case $option in n) sessions=$OPTARG ;; c) cut=1 ;; r) rest=1 ;; k) keep=1 ;; d) directory=$OPTARG ;; *) exit 2 ;; esac done
shift $((OPTIND - 1))
. benches/pair.sh ending

captures=${directory:-$work}/captures-$$
log=$work/vxtap.log
ip netns exec $receive "$vxtap" run --write "$captures" --max-sessions "$sessions" --rotate-time 1d --ledger none --receive-buffer 256MiB "$@" 2>"$log" &
sensor=$!
until grep -qs receiving "$log"; do kill -0 $sensor || { cat "$log"; exit 1; }; sleep 0.05; done
begun() { find "$captures" -name '*.pcap*' | wc -l; }
feed() {
  local loops=$(((3 * sessions + 379) / 380))
  ip netns exec $send "$vxtap" replay fixtures/demo/web.pcap --to 10.99.0.2 --vni "1-$sessions" --rate 20000 --loop $loops >/dev/null
  [ ! "$rest" ] || until [ "$(begun)" -ge "$sessions" ]; do sleep 0.5; done
}
now() { date +%s%N; }
feed
if [ "$cut" ]; then
  kill -USR1 $sensor
  feed
  kill -USR1 $sensor
fi
memory=$(awk '/VmRSS/ { printf "%d", $2 / 1024 }' /proc/$sensor/status)
# Fields 14 and 15: ticks of 10 ms.
ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$sensor/stat"; }
before=$(ticks)
begin=$(now)
kill $sensor
used=$before
while now_used=$(ticks 2>/dev/null) && [ "$now_used" ]; do used=$now_used; sleep 0.02; done
status=0
wait $sensor || status=$?
end=$(now)
awk -v ms=$(((end - begin) / 1000000)) -v files="$(find "$captures" -name '*.pcap*' ! -name '*.part' | wc -l)" -v memory="$memory" -v status=$status -v cpu=$((used - before)) \
  'BEGIN { printf "%d files, %.1f s, %.1f s of processor, exit status %d, %d MiB before\n", files, ms / 1000, cpu / 100, status, memory }'
[ $status = 0 ] || tail -n 5 "$log"
[ "$keep" ] || rm -rf "$captures"
