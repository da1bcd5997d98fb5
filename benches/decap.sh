#!/usr/bin/env bash
# Captures stripped of VXLAN, beside what copies or cuts them: benches/decap.sh [DIR] [FRAMES] [RUNS]
#
# DIR is where the captures are made and written, on the file system that is measured, and has room for
# three times the largest: about 10 GB for two million frames. For each size (IMIX, 64 and 1514 bytes of inner
# frame) all sides take turns, RUNS times; the median of wall time is shown, relative to cat, with the largest
# memory of each. All files are in the page cache. Output is made anew each time.
#
#   vxtap     vxtap decap IN -o OUT               strips
#   into      vxtap decap IN --into DIR           strips, a file for the session, hashed
#   cat       cat IN >OUT                         copies
#   editcap   editcap -F pcap IN OUT              copies, frame by frame
#   chop      editcap -F pcap -C 50 IN OUT        cuts 50 bytes off each frame: right for IPv4 without tags alone
#   tcpdump   tcpdump -r IN -w OUT                copies, frame by frame
#
# pcap_decap (fmadio) and ipdecap are in no Debian release: they take part where they are in PATH, as
# `pcap_decap <IN >OUT` and `ipdecap -i IN -o OUT`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$root/target/decap} frames=${2:-2000000} runs=${3:-5}
(cd "$root" && cargo build -q --release --bin vxtap --example make_load)
vxtap=$root/target/release/vxtap
mkdir -p "$dir"

sides=(vxtap into cat)
for program in editcap tcpdump pcap_decap ipdecap; do
  if command -v "$program" >/dev/null; then
    sides+=("$program")
    [ "$program" != editcap ] || sides+=(chop)
  else
    echo "not here: $program"
  fi
done

side() { # NAME IN OUT
  case $1 in
    vxtap) "$vxtap" decap "$2" -o "$3" ;;
    into) rm -rf "$3.d" && "$vxtap" decap "$2" --into "$3.d" ;;
    cat) cat "$2" >"$3" ;;
    editcap) editcap -F pcap "$2" "$3" ;;
    chop) editcap -F pcap -C 50 "$2" "$3" ;;
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

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

for size in imix 64 1514; do
  in=$dir/$size.pcap out=$dir/out.pcap
  "$root/target/release/examples/make_load" "$in" "$size" "$frames" vxlan
  cat "$in" >/dev/null
  declare -A walls=() memory=()
  for ((run = 0; run < runs; run++)); do
    for name in "${sides[@]}"; do
      read -r wall kib < <(measure "$name" "$in" "$out")
      walls[$name]+="$wall "
      memory[$name]=$((kib > ${memory[$name]:-0} ? kib : ${memory[$name]:-0}))
    done
  done
  base=$(tr ' ' '\n' <<<"${walls[cat]% }" | median)
  echo "$size: $frames frames, $(stat -c %s "$in") bytes"
  for name in "${sides[@]}"; do
    wall=$(tr ' ' '\n' <<<"${walls[$name]% }" | median)
    awk -v n="$name" -v w="$wall" -v b="$base" -v m="${memory[$name]}" \
      'BEGIN { printf "  %-10s %7.3f s  %5.2f of cat  %6.1f MiB\n", n, w, w / b, m / 1024 }'
  done
  rm -rf "$in" "$out" "$out.d"
done
