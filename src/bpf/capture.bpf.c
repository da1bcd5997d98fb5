// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The fast path: takes whole VXLAN datagrams off an interface and puts them into a ring that vxtap reads in place.
//
// One body, two sections: `xdp.frags` runs in the driver, `classifier` at tc ingress. What it takes is an Ethernet frame with up to two
// VLAN tags, IPv4 (options allowed, no fragment) or IPv6 (no extension header), and a whole UDP datagram to an address and port that is
// in `listening`. Everything else goes on to the stack, where the sensor's UDP socket listens: fragments first of all. So what is left
// alone here is never lost, and no judgement about VXLAN is made here either, but for one that saves the copy: see `unselected`.
//
// Rebuilt and compared by `./ci.sh bpf`.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

typedef __u64 u64;
typedef __u32 u32;
typedef __u16 u16;
typedef __u8 u8;

// What precedes a datagram in the ring: 56 bytes, so that the payload begins 64 bytes after the kernel's own header of 8 does, and records
// whose room for it is a multiple of 64 begin and end with a cache line. Mirrored in source/bpf/record.rs.
struct record {
  u64 time;    // CLOCK_MONOTONIC, or CLOCK_REALTIME
  u32 length;  // of the UDP payload
  u32 kept;    // of that, bytes that follow
  u32 source[4], destination[4];                      // network order; IPv4 as IPv4-mapped IPv6
  u16 source_port, destination_port, checksum;        // network order
  u16 real;                                           // it is CLOCK_REALTIME
};

// Set before the program is loaded, so the verifier drops what is not used.
const volatile u32 rings_by_session = 0; // rings to choose from by session; 0: the CPU's own
const volatile u32 keep = ~0u;           // bytes of a payload to copy at most
const volatile bool any_address = false; // whoever it is addressed to: `listening` has the address ::

struct ring {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, u32);
  __array(values, struct ring);
} rings SEC(".maps");

// What user space says, a cache line each. The first is for the program, number n + 1 for ring n.
struct state {
  u32 set;  // of the program: leave everything to the stack. Of a ring: its reader sleeps, wake it.
  u32 only; // of the program: take only what these lists have
  u32 pad[14];
};
enum { ONLY_VNIS = 1, ONLY_SOURCES = 2 };
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, u32);
  __type(value, struct state);
} states SEC(".maps");

// What became of packets, for each ring. Mirrored in source/bpf/program.rs.
struct count {
  u64 taken;            // put into the ring
  u64 ring_full;        // lost, since the ring had no room
  u64 unselected;       // whole VXLAN of a session that is not allowed: dropped
  u64 unselected_bytes; // of their payloads
  u64 passed;           // left to the stack; in the count of ring 0
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, u32);
  __type(value, struct count);
} counts SEC(".maps");

struct endpoint {
  u32 address[4];
  u16 port, zero;
};
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __type(key, struct endpoint);
  __type(value, u8);
} listening SEC(".maps");

// The allow-lists. They change while the program runs: what is new is entered first, and what is not allowed any more removed last. Room for
// two lists that have nothing in common (`source::allowed::MOST` each).
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 2 * 65536);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, u32);
  __type(value, u8);
} vnis SEC(".maps");

struct source {
  u32 address[4];
};
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 2 * 65536);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct source);
  __type(value, u8);
} sources SEC(".maps");

enum { LEAVE, TAKE };

static __always_inline bool is_allowed(u32 only, u32 vni, const u32 *from) {
  if (only & ONLY_VNIS && !bpf_map_lookup_elem(&vnis, &vni))
    return false;
  struct source source;
  __builtin_memcpy(source.address, from, 16);
  return !(only & ONLY_SOURCES) || bpf_map_lookup_elem(&sources, &source);
}

static __always_inline long load(void *ctx, bool xdp, u32 at, void *to, u32 length) {
  return xdp ? bpf_xdp_load_bytes(ctx, at, to, length) : bpf_skb_load_bytes(ctx, at, to, length);
}

// The hash of the filter on the UDP sockets (`sys::socket::steer_by_session`): a session's fragments, which come through the socket,
// belong to the same worker.
#define MIX 0x9e3779b1u
static __always_inline u32 session(const struct record *r, bool v6, u32 vni) {
  u32 x = vni * MIX;
  if (v6) {
#pragma unroll
    for (int i = 0; i < 3; i++)
      x = (x ^ bpf_ntohl(r->source[i])) * MIX;
  }
  return ((x ^ bpf_ntohl(r->source[3])) * MIX) >> 16;
}

// A record with room for N bytes. The size of a record must be a constant, and the verifier must see the bounds of the copy right before
// it: the empty asm keeps the compiler from deriving them from what was checked before.
#define STORE(N)                                                                                                                     \
  {                                                                                                                                  \
    struct {                                                                                                                         \
      struct record head;                                                                                                            \
      u8 payload[N];                                                                                                                 \
    } *into = bpf_ringbuf_reserve(ring, sizeof *into, 0);                                                                            \
    if (!into)                                                                                                                       \
      goto full;                                                                                                                     \
    r.time = stamp ? stamp : bpf_ktime_get_ns();                                                                                     \
    into->head = r;                                                                                                                  \
    u64 n = r.kept;                                                                                                                  \
    asm volatile("" : "+r"(n));                                                                                                      \
    if (n > 0 && n <= N && load(ctx, xdp, at, into->payload, n) != 0) {                                                              \
      bpf_ringbuf_discard(into, wake);                                                                                                \
      return LEAVE;                                                                                                                  \
    }                                                                                                                                \
    bpf_ringbuf_submit(into, wake);                                                                                                  \
  }

static __always_inline int capture(void *ctx, u8 *data, u8 *end, u32 whole, u64 stamp, const bool xdp) {
  struct record r = {.real = stamp != 0};
  struct count *count;
  struct state *state;
  u32 at = 14, room, zero = 0;
  bool v6 = false;

  if (data + at > end)
    return LEAVE;
  u16 type = *(u16 *)(data + 12);
#pragma unroll
  for (int tag = 0; tag < 2; tag++)
    if (type == bpf_htons(0x8100) || type == bpf_htons(0x88a8)) {
      if (data + at + 4 > end)
        return LEAVE;
      type = *(u16 *)(data + at + 2);
      at += 4;
    }

  u8 *ip = data + at;
  if (type == bpf_htons(0x0800)) {
    if (ip + 20 > end)
      return LEAVE;
    u32 head = (ip[0] & 15) * 4, total = bpf_ntohs(*(u16 *)(ip + 2));
    // 0x3fff: an offset, or more to come.
    if (ip[0] >> 4 != 4 || head < 20 || total < head + 8 || ip[9] != 17 || *(u16 *)(ip + 6) & bpf_htons(0x3fff))
      return LEAVE;
    r.source[2] = r.destination[2] = bpf_htonl(0xffff);
    r.source[3] = *(u32 *)(ip + 12);
    r.destination[3] = *(u32 *)(ip + 16);
    room = total - head;
    at += head;
  } else if (type == bpf_htons(0x86dd)) {
    if (ip + 40 > end || ip[0] >> 4 != 6 || ip[6] != 17)
      return LEAVE;
    __builtin_memcpy(r.source, ip + 8, 16);
    __builtin_memcpy(r.destination, ip + 24, 16);
    room = bpf_ntohs(*(u16 *)(ip + 4));
    at += 40;
    v6 = true;
  } else {
    return LEAVE;
  }

  u8 *udp = data + at;
  if (udp + 8 > end)
    return LEAVE;
  u32 length = bpf_ntohs(*(u16 *)(udp + 4));
  // The datagram ends where its own length says, whatever follows it in the packet; one that says more than there is is the stack's.
  if (length < 8 || length > room || at + length > whole)
    return LEAVE;
  r.source_port = *(u16 *)udp;
  r.destination_port = *(u16 *)(udp + 2);
  r.checksum = *(u16 *)(udp + 6);
  struct endpoint to = {.port = r.destination_port};
  if (!any_address)
    __builtin_memcpy(to.address, r.destination, 16);
  if (!bpf_map_lookup_elem(&listening, &to))
    return LEAVE;
  state = bpf_map_lookup_elem(&states, &zero);
  if (!state || *(volatile u32 *)&state->set)
    return LEAVE;
  u32 only = *(volatile u32 *)&state->only;

  at += 8;
  r.length = length - 8;
  r.kept = r.length < keep ? r.length : keep;
  // The VXLAN header: two words, in the packet's first piece or not.
  u32 vxlan[2] = {};
  if (r.length >= 8) {
    if (udp + 16 <= end)
      __builtin_memcpy(vxlan, udp + 8, 8);
    else if (load(ctx, xdp, at, vxlan, 8) != 0)
      return LEAVE;
  }
  u32 vni = bpf_ntohl(vxlan[1]) >> 8;

  u32 number = rings_by_session ? session(&r, v6, vni) % rings_by_session : bpf_get_smp_processor_id();
  count = bpf_map_lookup_elem(&counts, &number);
  void *ring = bpf_map_lookup_elem(&rings, &number);
  number++;
  state = bpf_map_lookup_elem(&states, &number);
  if (!count || !state || !ring)
    return LEAVE;

  // A header without a fault (the I flag and nothing else), a whole Ethernet header behind it, and a session that is not allowed: user space
  // would count it and no more. All that is odd goes there.
  if (only && r.length >= 8 + 14 && vxlan[0] == bpf_htonl(0x08000000) && (bpf_ntohl(vxlan[1]) & 0xff) == 0 &&
      !is_allowed(only, vni, r.source)) {
    count->unselected++;
    count->unselected_bytes += r.length;
    return TAKE;
  }

  u64 wake = BPF_RB_NO_WAKEUP;
  if (*(volatile u32 *)&state->set) {
    // Once is enough.
    *(volatile u32 *)&state->set = 0;
    wake = BPF_RB_FORCE_WAKEUP;
  }
  if (r.kept <= 128)
    STORE(128)
  else if (r.kept <= 256)
    STORE(256)
  else if (r.kept <= 640)
    STORE(640)
  else if (r.kept <= 1152)
    STORE(1152)
  else if (r.kept <= 1600)
    STORE(1600)
  else if (r.kept <= 4160)
    STORE(4160)
  else if (r.kept <= 9216)
    STORE(9216)
  else
    return LEAVE;
  count->taken++;
  return TAKE;
full:
  // The reader is behind, so it is awake, or about to be woken by a record before this one.
  count->ring_full++;
  return TAKE;
}

static __always_inline int passed(int action) {
  u32 zero = 0;
  struct count *count = bpf_map_lookup_elem(&counts, &zero);
  if (count)
    count->passed++;
  return action;
}

SEC("xdp.frags")
int vxtap_xdp(struct xdp_md *ctx) {
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  if (capture(ctx, data, end, bpf_xdp_get_buff_len(ctx), 0, true) == TAKE)
    return XDP_DROP;
  return passed(XDP_PASS);
}

SEC("classifier")
int vxtap_tc(struct __sk_buff *ctx) {
  // Several datagrams that the kernel has merged into one (GRO): the stack takes them apart again.
  if (ctx->gso_size)
    return passed(TC_ACT_UNSPEC);
  // The headers can be outside of the first piece.
  if (ctx->data_end - ctx->data < 62 && ctx->len > 62)
    bpf_skb_pull_data(ctx, 62);
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  // The time that the kernel has given the packet, as it does while a socket anywhere asks for it: that of a fragment is the same clock, read
  // at the same place, which keeps both ways in order.
  if (capture(ctx, data, end, ctx->len, ctx->tstamp, false) == TAKE)
    return TC_ACT_SHOT;
  // Not "accept": other programs on the interface are asked too.
  return passed(TC_ACT_UNSPEC);
}

// No helper of those above is for GPL-compatible programs only.
char program_license[] SEC("license") = "MIT";
