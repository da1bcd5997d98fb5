#!/usr/bin/env bash
# Compares vxtap run with the kernel's vxlan device and tcpdump -w: CPU per frame and loss at the same
# offered rates.
#
#   cargo build --release --examples --bins
#   sudo benches/live.sh [-n REPETITIONS] [-s SECONDS] [-l LENGTH] [-w SIDES] [RATE...]
#
# SIDES are some of: udp, tc, xdp (vxtap with this source), kernel. The default is "udp kernel". With
# +asked behind it, as udp+asked, somebody asks vxtap once a second for what Prometheus and the page
# ask for.
#
# There are two network namespaces and a veth pair (MTU 9001). The sender (vxtap replay) has CPU 0; all
# receive work has CPU 1: the veth's NAPI thread, the receiver, its writer. Both write to a tmpfs. Cost
# is the time that these threads were on the CPU, kernel included, for each frame in the file; frames
# are counted with capinfos. The sides alternate, and the table has medians. VXTAP names another
# program than target/release/vxtap, such as that of the commit before. VXTAP_RUN has more options for
# vxtap run, such as "--tap mirror0".
set -euo pipefail
cd "$(dirname "$0")/.."
repetitions=5 seconds=3 length=64 sides="udp kernel"
while getopts n:s:l:w: option; do
  case $option in n) repetitions=$OPTARG ;; s) seconds=$OPTARG ;; l) length=$OPTARG ;; w) sides=$OPTARG ;; *) exit 2 ;; esac
done
shift $((OPTIND - 1))
rates=("$@")
[ ${#rates[@]} -gt 0 ] || rates=(100000 200000 300000 400000 500000)
. benches/pair.sh live ethtool tcpdump capinfos taskset chrt
ip netns exec $send ethtool -K v0 tx off tso off gso off >/dev/null
# GRO gives the veth its NAPI, which a thread can then do on a CPU of our choice.
ip netns exec $receive ethtool -K v1 gro on >/dev/null
ip netns exec $receive sh -c 'echo 1 >/sys/class/net/v1/threaded'
# This is like a network card's interrupt moderation. Without it a veth wakes its NAPI for every few
# packets, by an interrupt from the sender's CPU that costs a virtual machine more than the packets.
ip netns exec $receive sh -c 'echo 50000 >/sys/class/net/v1/gro_flush_timeout; echo 1000 >/sys/class/net/v1/napi_defer_hard_irqs'
ip -n $receive link set lo up
sleep 0.2
for pid in $(pgrep 'napi/v1'); do taskset -pc 1 "$pid" >/dev/null && chrt -f -p 50 "$pid"; done

frames=65536
target/release/examples/make_load "$work/load.pcap" "$length" $frames

# Nanoseconds on the CPU so far: the NAPI thread and all threads of process $1.
busy() { cat $(printf '/proc/%s/schedstat ' $(pgrep 'napi/v1')) /proc/"$1"/task/*/schedstat | awk '{ n += $1 } END { printf "%.0f", n }'; }

# Prints: frames sent, frames in the files, nanoseconds of CPU, frames sent a second.
trial() {
  local side=$1 rate=$2 source loops before after sent achieved
  loops=$(((rate * seconds + frames - 1) / frames))
  mkdir "$work/out"
  case $side in
  udp* | tc* | xdp*)
    source="--source udp"
    [ "${side%+asked}" = udp ] || source="--source bpf --interface v1 --attach ${side%+asked}"
    [ "$side" = "${side%+asked}" ] || source+=" --http 127.0.0.1:9479"
    ip netns exec $receive taskset -c 1 "$vxtap" run --workers 1 $source ${VXTAP_RUN:-} --write "$work/out" --ledger none 2>"$work/log" &
    ;;
  kernel)
    ip -n $receive link add vx0 type vxlan id 7 local 10.99.0.2 dev v1 dstport 4789 nolearning
    ip netns exec $receive sysctl -qw net.ipv6.conf.vx0.disable_ipv6=1
    ip -n $receive link set vx0 mtu 8900 up promisc on
    ip netns exec $receive taskset -c 1 tcpdump -i vx0 -n -B 32768 -w "$work/out/kernel.pcap" 2>"$work/log" &
    ;;
  esac
  local pid=$!
  until grep -qE 'receiving|listening on' "$work/log"; do kill -0 $pid || { cat "$work/log" >&2; exit 1; }; sleep 0.05; done
  sleep 0.2
  local asking=
  if [ "$side" != "${side%+asked}" ]; then
    ip netns exec $receive taskset -c 0 bash -c \
      'while sleep 1; do curl -sS http://127.0.0.1:9479/{metrics,status,"ledger?top=100"} || exit; done' >/dev/null &
    asking=$!
  fi
  before=$(busy $pid)
  read -r sent achieved <<<"$(ip netns exec $send taskset -c 0 "$vxtap" replay "$work/load.pcap" --to 10.99.0.2 --vni 7 --rate "$rate" \
    --loop $loops | sed -n 's/^sent \([0-9,]*\) frames.* s: \([0-9,.]*\) frames.*/\1 \2/p' | tr -d ,)"
  sleep 0.3
  after=$(busy $pid)
  [ ! "$asking" ] || kill $asking
  kill -INT $pid
  wait $pid || true
  [ "$side" != kernel ] || ip -n $receive link del vx0
  local got
  got=$(find "$work/out" -name '*.pcap' -exec capinfos -cMTr {} + | awk '{ n += $NF } END { print n + 0 }')
  rm -rf "$work/out"
  echo "$sent $got $((after - before)) $achieved"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

echo "frames of $length bytes, $seconds s a trial, medians of $repetitions; $(uname -r), $(nproc) CPUs, $(tcpdump --version 2>&1 | head -1)"
printf '%10s  %-9s %10s %14s %10s %12s\n' 'asked/s' side 'sent/s' 'CPU ns/frame' 'lost %' 'lost % worst'
for rate in "${rates[@]}"; do
  for ((i = 0; i < repetitions; i++)); do
    for side in $sides; do
      read -r sent got ns achieved <<<"$(trial $side "$rate")"
      awk -v s="$sent" -v g="$got" -v t="$ns" -v a="$achieved" \
        'BEGIN { printf "%.0f %.4f %.0f\n", g ? t / g : 0, (s - g) * 100 / s, a }' >>"$work/$side-$rate"
    done
  done
  for side in $sides; do
    printf '%10s  %-9s %10s %14s %10s %12s\n' "$rate" $side "$(awk '{ print $3 }' "$work/$side-$rate" | median)" "$(awk '{ print $1 }' "$work/$side-$rate" | median)" \
      "$(awk '{ print $2 }' "$work/$side-$rate" | median)" "$(awk '{ print $2 }' "$work/$side-$rate" | sort -n | tail -1)"
  done
done
