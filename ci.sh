#!/usr/bin/env bash
# All checks of the project: ./ci.sh, or ./ci.sh JOB...
#
# As root it installs the Debian packages that the tests need and that are missing. As an ordinary user
# it runs what needs no privilege, and says what it skipped. With CI set in the environment a skipped
# test is a failure.
set -euo pipefail
cd "$(dirname "$0")"

jobs_in_order=(packages fmt clippy doc deny bpf unit golden service e2e fast demo package deploy bench fuzz rig)
cargo_deny_version=0.20.2
cargo_deb_version=3.8.0
cargo_generate_rpm_version=0.21.1
tools=$PWD/target/tools
skipped=()

skip() {
  echo "skipped: $*"
  skipped+=("$*")
}

# Debian packages of the programs that tests use as peers and judges.
packages() {
  local missing=()
  while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$package")
  done <<'LIST'
tshark tshark
capinfos wireshark-common
tcpdump tcpdump
ip iproute2
unshare util-linux
systemctl systemd
ethtool ethtool
iperf3 iperf3
ping iputils-ping
curl curl
prlimit util-linux
strace strace
b3sum b3sum
tc iproute2
nft nftables
clang-14 clang-14
llvm-strip-14 llvm-14
promtool prometheus
python3 python3-minimal
debootstrap debootstrap
lintian lintian
dpkg-shlibdeps dpkg-dev
rpm rpm
rpm2cpio rpm2cpio
rpmlint rpmlint
cpio cpio
losetup mount
lsof lsof
c++ g++
umoci umoci
systemd-analyze systemd
chromium chromium
LIST
  [ -e /usr/include/bpf/bpf_helpers.h ] || missing+=(libbpf-dev)
  has_libpcap || missing+=(libpcap0.8)
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  local suricata=()
  command -v suricata >/dev/null || suricata=(suricata)
  [ $((${#missing[@]} + ${#suricata[@]})) -gt 0 ] || { echo "all there"; return; }
  if [ "$(id -u)" -ne 0 ]; then
    skip "installing ${missing[*]} ${suricata[*]}: needs root"
    return
  fi
  apt-get update -qq
  if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}"
    # This package starts its service, and all that the tests need is promtool.
    [[ " ${missing[*]} " != *" prometheus "* ]] || systemctl disable --now prometheus >/dev/null 2>&1 || true
  fi
  if [ ${#suricata[@]} -gt 0 ]; then
    backports
    # Its libraries are to come from there too.
    install_packages -t "$(codename)-backports" suricata
    # The package starts its service; the tests start their own, in namespaces.
    systemctl disable --now suricata >/dev/null 2>&1 || true
  fi
}

has_libpcap() { [[ $(PATH=$PATH:/usr/sbin:/sbin ldconfig -p) == *libpcap.so* ]]; }

install_packages() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }

codename() { (. /etc/os-release && echo "$VERSION_CODENAME"); }

# Suricata is in the backports of Debian 12 only. This adds the machine's own source of Debian, with its
# suite changed.
backports() {
  local suite entry=/etc/apt/sources.list.d/vxtap-backports
  suite=$(codename)
  grep -rqs "$suite-backports" /etc/apt/sources.list /etc/apt/sources.list.d && return
  if [ -f /etc/apt/sources.list.d/debian.sources ]; then
    awk -v RS= -v ORS='\n\n' -v suite="$suite" '$0 ~ "Suites:[^\n]*" suite "( |$|\n)" && !done {
      sub(/Suites:[^\n]*/, "Suites: " suite "-backports"); print; done = 1 }' /etc/apt/sources.list.d/debian.sources >$entry.sources
  else
    sed -n "s/^\(deb .*\) $suite \(.*\)/\1 $suite-backports \2/p" /etc/apt/sources.list | head -1 >$entry.list
  fi
  apt-get update -qq
}

fmt() { cargo fmt --all --check; }

clippy() { cargo clippy --all-targets --locked -- -D warnings; }

doc() {
  RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked
  cargo test --doc --locked
}

# Checks licences, sources and duplicates. (Advisories need a database from the network: cargo deny
# check advisories.)
deny() {
  if ! cargo deny --version 2>/dev/null | grep -q "$cargo_deny_version"; then
    [ -x "$tools/bin/cargo-deny" ] || cargo install --quiet --locked --root "$tools" "cargo-deny@$cargo_deny_version"
    PATH=$tools/bin:$PATH
  fi
  cargo deny --locked check bans licenses sources
}

# Checks that the committed object is what Debian's clang makes of the source beside it. Building vxtap
# needs no clang.
bpf() {
  local made=target/bpf/capture.bpf.o committed=src/bpf/capture.bpf.o
  if ! command -v clang-14 >/dev/null || ! command -v llvm-strip-14 >/dev/null || [ ! -e /usr/include/bpf/bpf_helpers.h ]; then
    skip "building the BPF object: needs the packages clang-14, llvm-14 and libbpf-dev"
    return
  fi
  mkdir -p target/bpf
  clang-14 --target=bpfel -mcpu=v3 -g -O2 -Wall -Wextra -Werror -fdebug-prefix-map="$PWD=." \
    -idirafter "/usr/include/$(uname -m)-linux-gnu" -c src/bpf/capture.bpf.c -o $made
  # Types and line numbers (BTF) stay, which the kernel's verifier shows; DWARF goes.
  llvm-strip-14 -g $made
  cmp $made $committed || { echo "update it: cp $made $committed"; return 1; }
}

# Tests that compile expressions.
of_libpcap=(
  an_entry_for_sessions_can_come_to_read_all_of_a_frame
  all_that_an_entry_can_say_is_printed_and_read_again
  a_host_is_asked_for_all_bytes_where_an_entry_looks_at_them
  entries_become_plans_in_their_order
  frames_go_where_the_plan_of_their_session_says
  a_program_returns_what_it_returns_in_libpcap
  an_expression_is_asked_of_the_frame
  expressions_take_the_frames_that_tcpdump_takes
  expressions_take_the_bare_packets_that_tcpdump_takes
  what_libpcap_refuses_is_said_in_its_words
  what_is_said_of_ethernet_is_refused_without_it
  an_expression_is_known_by_its_text
  what_only_an_interface_of_this_host_has_is_refused
  what_looks_into_frames_allocates_nothing_per_datagram_once_there_are_tables
  what_is_wrong_is_answered_with_the_cause_and_what_to_type
  fuzzing::tests::programs
  fuzzing::tests::expressions
)

unit() {
  local without=()
  if ! has_libpcap; then
    skip "tests that compile expressions: no libpcap (package libpcap0.8)"
    for name in "${of_libpcap[@]}"; do without+=(--skip "$name"); done
  fi
  cargo test --locked --lib --bins --examples -- "${without[@]}"
  cargo test --locked --test architecture --test allocations --test properties --test replay --test documents -- "${without[@]}"
  cargo test --locked --test hostile --test verify --test invocations --test catalogue --test configurations --test decap --test duplicates --test monitoring --test units -- "${without[@]}"
}

golden() { cargo test --locked --test golden -- --nocapture; }

# Asks systemd about the units, as they would be with the program of this checkout: are they understood,
# and how much is a service exposed? Ten times what systemd-analyze says is the most here, 15 with sockets
# and 20 with what needs a capability.
service() {
  if ! command -v systemd-analyze >/dev/null; then
    skip "the units: no systemd-analyze"
    return
  fi
  local out kind unit
  program
  out=$(mktemp -d)
  for kind in udp tap bpf gre all; do
    mkdir -p "$out/$kind/vxtap.service.d"
    for unit in systemd/*.service systemd/*.timer systemd/*.socket; do
      sed "s:/usr/bin/vxtap:$PWD/target/debug/vxtap:; s:/usr/lib/vxtap:$PWD/systemd:" "$unit" >"$out/$kind/$(basename "$unit")"
    done
  done
  cp systemd/drop-ins/tap.conf "$out/tap/vxtap.service.d/"
  cp systemd/drop-ins/bpf.conf "$out/bpf/vxtap.service.d/"
  cp systemd/drop-ins/gre.conf "$out/gre/vxtap.service.d/"
  cp systemd/drop-ins/*.conf "$out/all/vxtap.service.d/"
  if ! command -v suricata >/dev/null; then
    skip "what feeds Suricata: no suricata"
    rm "$out"/*/vxtap-suricata.service
  fi
  systemd-analyze verify --man=no "$out"/udp/vxtap*.{service,timer,socket}
  for kind in tap bpf gre all; do
    systemd-analyze verify --man=no "$out/$kind/vxtap.service"
    exposed 20 "$out/$kind/vxtap.service"
  done
  exposed 15 "$out/udp/vxtap.service"
  for unit in "$out"/udp/vxtap-*.service; do exposed 20 "$unit"; done
  systemd-sysusers --dry-run "$PWD/systemd/vxtap.sysusers"
  rm -r "$out"
}

# Builds the program as the tests have it. Alone it would be built anew, with most of its crates: where examples come
# along, as with tests, crates have more features.
program() { cargo build --locked --quiet --bin vxtap --example make_papers; }

# Fails where a unit is exposed more than this, and says by what.
exposed() {
  local answer
  answer=$(systemd-analyze security --offline=true --no-pager --threshold="$1" "$2") || { echo "$2: $answer"; return 1; }
  echo "$(basename "$(dirname "$2")"): ${answer##*$'\n'}"
}

# Looks at the templates in deploy/, gives the user data to a clean Debian, and runs the container image. The programs
# from PyPI that it takes for that stay in target/tools.
deploy() {
  local venv=$tools/deploy-1 made
  if [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check cfn-lint==1.58.0 python-hcl2==8.1.4 PyYAML==6.0.4
    touch "$venv/complete"
  fi
  program
  "$venv/bin/python" deploy/test/templates target/debug/vxtap
  "$venv/bin/python" deploy/test/lambda
  # Debian has no package of it.
  if command -v terraform >/dev/null; then
    terraform fmt -check -recursive deploy/terraform
  else
    echo "left out: the format of Terraform's files, and what they give to an instance: no terraform"
  fi
  if ! makes_a_debian; then
    skip "the user data in a clean Debian, and the container: they need root and debootstrap"
    return
  fi
  # The package that the job before made, where it did.
  made=(target/package/*.deb)
  if [ -e "${made[0]}" ]; then deploy/test/user-data "${made[0]}"; else deploy/test/user-data; fi
  deploy/test/container target/debug/vxtap
}

# Namespaces, veth pairs and the kernel's vxlan device need root.
e2e() {
  if [ "$(id -u)" -ne 0 ]; then
    skip "end-to-end tests: they need root for network namespaces (sudo ./ci.sh e2e)"
    return
  fi
  cargo test --locked --test e2e -- --nocapture
}

# Tests the same sensor by way of the BPF program, at both places: what it receives must not depend on
# how.
fast() {
  local place
  if [ "$(id -u)" -ne 0 ]; then
    skip "end-to-end tests of the fast path: they need root"
    return
  fi
  for place in xdp tc; do
    VXTAP_TEST_SOURCE=$place cargo test --locked --test e2e -- --nocapture \
      evidence hostile kernel_device ledger mirror rotation sessions stopping starved
  done
}

# The README's first command, in a directory that goes away.
demo() {
  local out
  out=$(mktemp -d)
  cargo run --release --locked --quiet -- demo --write "$out"
  rm -r "$out"
}

# Makes the packages of the release build, looks at them, and has the Debian package installed in a clean Debian with
# systemd, up to its removal. On a quiet machine that takes about two minutes, of which one is for tools and the Debian,
# which stay in target/tools.
package() {
  local root debian=
  if makes_a_debian; then
    deploy/test/root >/dev/null &
    debian=$!
    # It ends by itself, and takes its mount along.
    # shellcheck disable=SC2064
    trap "wait $debian || true" EXIT
  else
    skip "the package in a clean Debian: needs root and debootstrap"
  fi
  cargo build --release --locked --quiet
  packaging/make "$tools" "$cargo_deb_version" "$cargo_generate_rpm_version"
  packaging/look
  [ -n "$debian" ] || return 0
  wait "$debian"
  # What the test writes goes beside the Debian, into memory.
  root=$(mktemp -d)
  mount -t tmpfs -o size=1g,mode=755 vxtap-test "$root"
  # shellcheck disable=SC2064
  trap "umount --lazy '$root'; rmdir '$root'" EXIT
  mkdir "$root"/{changes,work,debian}
  mount -t overlay -o "lowerdir=$(deploy/test/root),upperdir=$root/changes,workdir=$root/work" none "$root/debian"
  cp target/package/*.deb "$root/debian/srv/1.deb"
  # The same with a higher version.
  dpkg-deb --raw-extract "$root/debian/srv/1.deb" "$root/next"
  sed -i 's/^Version: .*/&+next/' "$root/next/DEBIAN/control"
  dpkg-deb --root-owner-group -Znone --build "$root/next" "$root/debian/srv/2.deb" >/dev/null
  cp -r fixtures/aws "$root/debian/srv/"
  VXTAP_TEST_ROOT=$root/debian cargo test --locked --quiet --test e2e -- package --nocapture
  umount --lazy "$root"
  rmdir "$root"
  trap - EXIT
}

# Says whether deploy/test/root can make a clean Debian, and something can be started in it.
makes_a_debian() { [ "$(id -u)" -eq 0 ] && command -v debootstrap >/dev/null; }

# Makes all that is handed out, twice, and compares: ./ci.sh release. It builds the program two times
# from nothing, so it is none of the jobs in order.
release() { packaging/release "$tools" "$cargo_deb_version" "$cargo_generate_rpm_version"; }

# Compiled as the tests are, and each run once: that they work, not how fast.
bench() { cargo test --locked --bench pipeline -- --test; }

# Feeds each fuzz target for three seconds, over its seeds and what was kept. Every run begins with the same number: it
# is to tell what a change has broken, and what nobody has found yet is for longer runs: fuzz/run 3600
fuzz() { VXTAP_FUZZ_SEED=1 fuzz/run 3; }

# The rig compares on a machine of its own. Here it compiles: its Python, and its C where the machine
# happens to have what that needs.
rig() {
  local out
  out=$(mktemp -d)
  PYTHONPYCACHEPREFIX=$out python3 -m py_compile benches/rig/run benches/rig/draw benches/rig/lab/*.py
  if command -v clang >/dev/null && command -v bpftool >/dev/null && [ -e /usr/include/bpf/bpf_helpers.h ]; then
    benches/rig/native/build.sh "$out"
  else
    echo "the rig's C is not compiled: no clang, bpftool or libbpf-dev"
  fi
  rm -r "$out"
}

for job in "${@:-${jobs_in_order[@]}}"; do
  printf '\n== %s\n' "$job"
  begin=$SECONDS
  "$job"
  echo "== $job: $((SECONDS - begin)) s"
done

if [ ${#skipped[@]} -gt 0 ]; then
  printf '\nskipped:\n'
  printf '  %s\n' "${skipped[@]}"
  [ -z "${CI:-}" ] || exit 1
fi
printf '\nall passed\n'
