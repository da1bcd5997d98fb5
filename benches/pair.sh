# The scripts beside it source this. It makes two network namespaces, $send and $receive, and a veth
# pair of MTU 9001 between them, v0 (10.99.0.1) and v1 (10.99.0.2). $work is a directory in memory. All
# of that, and the script's programs in the background, go when the script ends. The first argument is
# the script's name, the others are programs that it needs.
name=$1
shift
for tool in ip "$@"; do command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 1; }; done

vxtap=${VXTAP:-target/release/vxtap}
send=vxtap-$name-send-$$ receive=vxtap-$name-receive-$$
work=$(mktemp -d "/dev/shm/vxtap-$name.XXXXXX")
cleanup() {
  jobs -p | xargs -r kill 2>/dev/null || true
  ip netns del "$send" 2>/dev/null || true
  ip netns del "$receive" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$send"
ip netns add "$receive"
ip link add v0 netns "$send" type veth peer name v1 netns "$receive"
for side in "$send v0 10.99.0.1" "$receive v1 10.99.0.2"; do
  read -r ns device address <<<"$side"
  ip netns exec "$ns" sysctl -qw "net.ipv6.conf.$device.disable_ipv6=1"
  ip -n "$ns" address add "$address/24" dev "$device"
  ip -n "$ns" link set "$device" mtu 9001 up
done
