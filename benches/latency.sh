#!/usr/bin/env bash
# Measures how long a datagram takes from the receiving interface to the mirror interface of an idle
# sensor.
#
#   cargo build --release --bins && sudo benches/latency.sh [-n DATAGRAMS]
#
# There are two network namespaces and a veth pair. Datagrams come one at a time, every 20 ms. A
# tcpdump on the outer interface and one on the tap stamp them by the same clock, in the kernel.
set -euo pipefail
cd "$(dirname "$0")/.."
count=500
while getopts n: option; do case $option in n) count=$OPTARG ;; *) exit 2 ;; esac done
. benches/pair.sh latency tcpdump tshark

ip netns exec $receive "$vxtap" run --tap mirror0 --no-write --ledger none 2>"$work/vxtap.log" &
sensor=$!
until grep -qs receiving "$work/vxtap.log"; do sleep 0.05; done
dumps=()
for device in v1 mirror0; do
  ip netns exec $receive tcpdump -i $device -n -U --immediate-mode -Z root --time-stamp-precision=nano -w "$work/$device.pcap" \
    $([ $device = v1 ] && echo udp dst port 4789) 2>"$work/$device.log" &
  dumps+=($!)
  until grep -qs 'listening on' "$work/$device.log"; do sleep 0.05; done
done
files=$(((count + 378) / 379))
ip netns exec $send "$vxtap" replay fixtures/demo/web.pcap --to 10.99.0.2 --rate 50 --loop $files >/dev/null
sleep 1
kill -INT "${dumps[@]}" $sensor
wait "${dumps[@]}" $sensor || true
times() { tshark -r "$work/$1.pcap" -T fields -e frame.time_epoch 2>/dev/null; }
paste <(times v1) <(times mirror0) | awk '{ split($1, a, "."); split($2, b, "."); printf "%d\n", (b[1] - a[1]) * 1000000 + (b[2] - a[2]) / 1000 }' |
  sort -n >"$work/microseconds"
awk '{ v[NR] = $1 } END { printf "%d datagrams, microseconds: median %d, 90 %% %d, 99 %% %d, largest %d\n", NR, v[int(NR * 0.5 + 0.5)], v[int(NR * 0.9 + 0.5)], v[int(NR * 0.99 + 0.5)], v[NR] }' "$work/microseconds"
