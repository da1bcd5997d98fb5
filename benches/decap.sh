#!/usr/bin/env bash
# Captures stripped of their wraps, beside what copies or cuts them:
# benches/decap.sh [DIR] [FRAMES] [RUNS] [ENCAPSULATION]
#
# DIR is where the captures are made and written, on the file system that is measured, and has room for
# three times the largest: about 10 GB for two million frames. ENCAPSULATION is one of `vxtap replay --as`,
# vxlan by default, or gre-ip: GRE around IP packets. For each size (IMIX, 64 and 1514 bytes of inner
# frame) all sides take turns, RUNS times; the median of wall time is shown, relative to cat, with the largest
# memory of each. All files are in the page cache. Output is made anew each time.
#
#   vxtap       vxtap decap IN -o OUT             strips
#   into        vxtap decap IN --into DIR         strips, a file for the session, hashed
#   cat         cat IN >OUT                       copies
#   editcap     editcap -F pcap IN OUT            copies, frame by frame
#   chop        editcap -F pcap -L -C N IN OUT    cuts N bytes off each frame: right where all wraps are as long
#   tcpdump     tcpdump -r IN -w OUT              copies, frame by frame
#   pcap_decap  pcap_decap <IN >OUT               strips ERSPAN II
#   ipdecap     ipdecap -i IN -o OUT              strips gre-ip
#
# The last two are in no Debian release: they take part where they are in PATH. What strips is checked: each frame
# must be the one that was wrapped. First with 12,000 frames, and what does not strip these is left out. Then with
# the output of the last run, and the script fails where that is wrong.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/release
dir=${1:-$root/target/decap} frames=${2:-2000000} runs=${3:-5} encapsulation=${4:-vxlan}
(cd "$root" && cargo build -q --release --bin vxtap --example make_load)
vxtap=$target/vxtap
load=$target/examples/make_load
mkdir -p "$dir"
in=$dir/in.pcap out=$dir/out.pcap

# Of a packet that was wrapped alone, the Ethernet header is the outer one, or made up.
case $encapsulation in
  gre-ip | gcp) made_up=14 ;;
  *) made_up=0 ;;
esac

side() { # NAME IN OUT
  case $1 in
    vxtap) "$vxtap" decap "$2" -o "$3" ;;
    into) "$vxtap" decap "$2" --into "$3.d" ;;
    cat) cat "$2" >"$3" ;;
    editcap) editcap -F pcap "$2" "$3" ;;
    chop) editcap -F pcap -L -C "$chop" "$2" "$3" ;;
    tcpdump) tcpdump -r "$2" -w "$3" ;;
    pcap_decap) pcap_decap <"$2" >"$3" ;;
    ipdecap) ipdecap -i "$2" -o "$3" ;;
  esac
}
export -f side
export vxtap

# Wall time in seconds and the largest memory in KiB of one run.
measure() { # NAME IN OUT
  rm -rf "$3" "$3.d"
  sync
  VXTAP_LOG=warn python3 - "$@" <<'PYTHON'
import os, resource, subprocess, sys, time
begin = time.monotonic()
run = subprocess.run(["bash", "-c", 'side "$@"', "side", *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
wall = time.monotonic() - begin
if run.returncode:
    sys.exit(f"{sys.argv[1]}: {run.stderr.decode()}")
print(f"{wall:.3f} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}")
PYTHON
}

# Whether the output has each frame as it was before it was wrapped. Says what is wrong, or odd.
check() { # NAME OUT LENGTH FRAMES
  local written=$2
  [ "$1" != into ] || written=$(find "$2.d" -name '*.pcap')
  python3 - "$1" <("$load" /dev/stdout "$3" "$4" 2>/dev/null) "$written" "$made_up" <<'PYTHON'
import itertools, struct, sys
name, wanted, written, made_up = sys.argv[1:]
made_up = int(made_up)

def records(path):
    with open(path, "rb") as file:
        file.read(24)
        while head := file.read(16):
            captured, original = struct.unpack("<8xII", head)
            yield captured, original, file.read(captured)

longer = shorter = 0
pairs = itertools.zip_longest(records(wanted), records(written))
for number, (before, after) in enumerate(pairs, 1):
    if before is None or after is None:
        sys.exit(f"{name}: {'less' if after is None else 'more'} than what was wrapped, from frame {number} on")
    captured, original, frame = after
    if frame[made_up : min(captured, original)] != before[2][made_up:]:
        sys.exit(f"{name}: frame {number} is not the one that was wrapped: {captured} bytes for {before[0]}")
    longer += captured > original
    shorter += captured < original
if longer:
    print(f"{name}: {longer} records have something behind the frame", file=sys.stderr)
if shorter:
    print(f"{name}: {shorter} records say that the frame was longer", file=sys.stderr)
PYTHON
}

"$load" "$in" imix 12000 "$encapsulation"
"$load" "$out" imix 12000
chop=$((($(stat -c %s "$in") - $(stat -c %s "$out")) / 12000))
[ "$made_up" = 0 ] || chop=$made_up:$chop
export chop

sides=(vxtap into cat)
strips=(vxtap into)
for name in editcap chop tcpdump pcap_decap ipdecap; do
  case $name in
    chop) program=editcap ;;
    *) program=$name ;;
  esac
  if ! command -v "$program" >/dev/null; then
    echo "$name: not here"
    continue
  fi
  case $name in
    chop | pcap_decap | ipdecap)
      if ! measure "$name" "$in" "$out" >/dev/null || ! check "$name" "$out" imix 12000; then
        echo "$name: does not strip $encapsulation, and is left out"
        continue
      fi
      strips+=("$name")
      ;;
  esac
  sides+=("$name")
done

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

for size in imix 64 1514; do
  "$load" "$in" "$size" "$frames" "$encapsulation"
  cat "$in" >/dev/null
  declare -A walls=() memory=()
  for ((run = 1; run <= runs; run++)); do
    for name in "${sides[@]}"; do
      result=$(measure "$name" "$in" "$out")
      read -r wall kib <<<"$result"
      walls[$name]+="$wall "
      memory[$name]=$((kib > ${memory[$name]:-0} ? kib : ${memory[$name]:-0}))
      if [ "$run" = "$runs" ] && [[ " ${strips[*]} " = *" $name "* ]]; then
        wrong=$(check "$name" "$out" "$size" "$frames" 2>&1) || { echo "$wrong" && exit 1; }
      fi
    done
  done
  base=$(tr ' ' '\n' <<<"${walls[cat]% }" | median)
  echo "$encapsulation, $size: $frames frames, $(stat -c %s "$in") bytes"
  for name in "${sides[@]}"; do
    wall=$(tr ' ' '\n' <<<"${walls[$name]% }" | median)
    awk -v n="$name" -v w="$wall" -v b="$base" -v m="${memory[$name]}" \
      'BEGIN { printf "  %-10s %7.3f s  %5.2f of cat  %6.1f MiB\n", n, w, w / b, m / 1024 }'
  done
  rm -rf "$in" "$out" "$out.d"
done
