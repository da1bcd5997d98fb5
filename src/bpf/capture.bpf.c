// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The fast path: takes whole datagrams of mirrors off an interface and puts them into a ring that
// vxtap reads in place.
//
// One body, two sections: `xdp.frags` runs in the driver, `classifier` at tc ingress. What it takes
// is an Ethernet frame with up to two VLAN tags, IPv4 (no options, no fragment) or IPv6 (no
// extension header), and a whole UDP datagram to an address and port that is in `listening`.
// Everything else goes on to the stack, where the sensor's UDP socket listens: fragments first of
// all. So what is left alone here is never lost, and no judgement about VXLAN or GENEVE is made
// here either, but for one that saves the copy: see `unselected`.
//
// What the stack would refuse is left to the stack as well. The keys of `listening` have the place
// where a datagram comes in, so that another host's Ethernet address, a VLAN that the host is not
// in, and a loopback address from outside are not found there. Sources that no other host has are
// `is_martian`.
//
// At tc it can also redirect: the outer headers are taken off the packet, and what is left, the
// inner frame, enters an interface that sniffers watch, with a tag of its session if it has one.
// Only what is faultless goes that way, and of sessions that user space has marked where these are
// not all. All else goes into the ring, and user space puts it into the interface.
//
// Rebuilt and compared by `./ci.sh bpf`.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

// The number of the loopback interface, in every network namespace.
#define LOOPBACK 1

// The mark of a redirected packet, plus the number of its ring: how it is known again when it has
// come through the interface.
#define MARK 0x76780000u

enum { LEAVE, MARTIAN, TAKE, ENTER };

static __always_inline bool is_same(const struct endpoint *a, const struct endpoint *b) {
  return !((a->address[0] ^ b->address[0]) | (a->address[1] ^ b->address[1]) | (a->port ^ b->port) | (a->tags ^ b->tags) |
           (a->ethernet ^ b->ethernet));
}

// Returns what comes to an endpoint, or 0 where the sensor does not listen.
static __always_inline u32 wrap_at(const struct endpoint *to, u32 generation) {
  u32 zero = 0;
  struct known *known = bpf_map_lookup_elem(&found, &zero);
  if (!known)
    return 0;
  if (known->generation != generation || !is_same(&known->to, to)) {
    u32 *wrap = bpf_map_lookup_elem(&listening, to);
    if (!wrap)
      return 0;
    known->to = *to;
    // Read before the lookup: what was removed meanwhile is looked up again.
    known->generation = generation;
    known->wrap = *wrap;
  }
  return known->wrap;
}

static __always_inline bool is_allowed(u32 only, u32 vni, const u32 *from) {
  if (only & ONLY_VNIS) {
    u32 at = vni / VNIS;
    struct vni_bits *bits = bpf_map_lookup_elem(&vnis, &at);
    if (!bits || !(bits->words[vni / 64 % (VNIS / 64)] >> vni % 64 & 1))
      return false;
  }
  if (!(only & ONLY_SOURCES))
    return true;
  struct prefix source = {.length = 128};
  __builtin_memcpy(source.address, from, 16);
  return bpf_map_lookup_elem(&sources, source.address) || (only & NETWORKS && bpf_map_lookup_elem(&networks, &source));
}

// The hash of the filter on the UDP sockets (`sys::socket::steer_by_session`): a session's
// fragments, which come through the socket, belong to the same worker.
#define MIX 0x9e3779b1u

// Returns which of 256 bits of `state.own` stands for this address, by its last word.
static __always_inline u32 own_bit(u32 last) { return (last * MIX) >> 24; }

// Says whether the source is one that no other host has, but for this one's own addresses.
// `listening` has destinations of that kind for the loopback interface alone, and with
// `any_address` it has none at all.
static __always_inline bool is_martian(const struct record *r, bool v6, u32 interface) {
  const u32 *from = r->source, *to = r->destination;
  bool local = interface == LOOPBACK;
  // Multicast; ::, ::1, and an IPv4 address, which here would pass for that IPv4 host.
  if (v6)
    return (from[0] & 0xff) == 0xff || (!(from[0] | from[1]) && (!local || from[2])) ||
           (any_address && !local && !(to[0] | to[1]));
  // This network, multicast and beyond; loopback.
  u8 first = from[3];
  return !local && (first == 0 || first >= 224 || first == 127 || (any_address && (u8)to[3] == 127));
}

// Says whether an address is one of this host's.
static __always_inline bool is_own(const struct state *state, const u32 *address) {
  u32 bit = own_bit(address[3]);
  if (!(*(volatile u32 *)&state->own[bit >> 5] >> (bit & 31) & 1))
    return false;
  struct source source;
  __builtin_memcpy(source.address, address, 16);
  return bpf_map_lookup_elem(&own, &source);
}

// Bytes of the packet with all its pieces; asked for only where the first is not all that matters.
static __always_inline u32 whole(void *ctx, bool xdp) {
  return xdp ? bpf_xdp_get_buff_len(ctx) : ((struct __sk_buff *)ctx)->len;
}

static __always_inline long load(void *ctx, bool xdp, u32 at, void *to, u32 length) {
  return xdp ? bpf_xdp_load_bytes(ctx, at, to, length) : bpf_skb_load_bytes(ctx, at, to, length);
}

static __always_inline u32 session(const struct record *r, bool v6, u32 vni) {
  u32 x = vni * MIX;
  if (v6) {
#pragma unroll
    for (int i = 0; i < 3; i++)
      x = (x ^ bpf_ntohl(r->source[i])) * MIX;
  }
  return ((x ^ bpf_ntohl(r->source[3])) * MIX) >> 16;
}

static __always_inline bool is_vlan(u16 type) {
  return type == bpf_htons(0x8100) || type == bpf_htons(0x88a8) || type == bpf_htons(0x9100);
}

// Bytes of an inner frame's beginning that tell of two VLAN tags and the length in the IP header
// behind them.
#define HEAD 28

// Says whether an inner frame has more tags than `is_cut` looks through.
static __always_inline bool has_three_tags(const u8 *head) {
  return is_vlan(*(u16 *)(head + 12)) && is_vlan(*(u16 *)(head + 16)) && is_vlan(*(u16 *)(head + 20));
}

// Says whether an inner frame of this many bytes, at least 34, had more of them by its IP header,
// behind two VLAN tags at most: see `wire::inner::original_length`.
static __always_inline bool is_cut(const u8 *head, u32 length) {
  u32 at = 14;
  u16 type = *(u16 *)(head + 12);
#pragma unroll
  for (int tag = 0; tag < 2; tag++)
    if (is_vlan(type)) {
      type = *(u16 *)(head + (tag ? 20 : 16));
      at += 4;
    }
  const u8 *ip = at == 14 ? head + 14 : at == 18 ? head + 18 : head + 22;
  if (type == bpf_htons(0x0800) && ip[0] >> 4 == 4) {
    u32 header = (ip[0] & 15) * 4, total = bpf_ntohs(*(u16 *)(ip + 2));
    return header >= 20 && total >= header && at + total > length;
  }
  return type == bpf_htons(0x86dd) && ip[0] >> 4 == 6 && at + 40 + bpf_ntohs(*(u16 *)(ip + 4)) > length;
}

// BPF_F_ADJ_ROOM_DECAP_L3_IPV4, of Linux 6.3: what is left can be as short as a header of IPv4.
#define IPV4_IS_LEFT (1ULL << 7)

// Makes the packet the inner frame, which begins at `frame`, in three steps, of which the last
// moves the frame: where one fails, the frame is where it was.
static __always_inline bool strip(struct __sk_buff *ctx, u32 frame, const u8 *head, u64 flags) {
  // The kernel removes what follows the outer Ethernet header, whose place is the inner one's.
  if (bpf_skb_store_bytes(ctx, 0, head, 14, BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH) != 0)
    return false;
  // A tag of the outer frame, which the kernel has taken off already, would be shown as the inner
  // frame's.
  if (ctx->vlan_present && bpf_skb_vlan_pop(ctx) != 0)
    return false;
  return bpf_skb_adjust_room(ctx, -(s32)frame, BPF_ADJ_ROOM_MAC, flags) == 0;
}

static __always_inline struct session key_of(const struct record *r, u32 id) {
  struct session key = {.id = id};
  __builtin_memcpy(key.source, r->source, 16);
  return key;
}

// Puts the tag of these VLANs in front of a frame, as `marked` has them.
static __always_inline bool push(struct __sk_buff *ctx, u32 vlans) {
  u16 inner = vlans >> 16;
  if (!inner)
    return bpf_skb_vlan_push(ctx, bpf_htons(0x8100), (u16)vlans) == 0;
  return bpf_skb_vlan_push(ctx, bpf_htons(0x8100), inner) == 0 && bpf_skb_vlan_push(ctx, bpf_htons(0x88a8), (u16)vlans) == 0;
}

// Returns the totals of a session, or nothing beyond the limit. Says whether the session is new.
static __always_inline struct total *total_of(const struct record *r, u32 id, bool *is_new) {
  struct session key = key_of(r, id);
  struct total *total = bpf_map_lookup_elem(&sessions, &key), none = {};
  *is_new = !total && bpf_map_update_elem(&sessions, &key, &none, BPF_NOEXIST) == 0;
  return total ? total : bpf_map_lookup_elem(&sessions, &key);
}

// The largest payload that goes into a ring, or is redirected.
#define MOST 9216

// Copies n bytes, 8 to FEW, of what lies in the packet's first piece, a word at a time and the last
// word so that it ends with them: for so few, less work than a call of the helper. False where they
// lie elsewhere.
#define FEW 120
static __always_inline bool copy_few(u8 *to, const u8 *from, const u8 *end, u64 n) {
  u64 last = n - 8;
  asm volatile("" : "+r"(last));
  if (last > FEW - 8 || from + last + 8 > end)
    return false;
#pragma unroll
  for (u64 i = 0; i < FEW / 8 - 1; i++)
    if (8 * i < last && from + 8 * i + 8 <= end)
      *(u64 *)(to + 8 * i) = *(u64 *)(from + 8 * i);
  *(u64 *)(to + last) = *(u64 *)(from + last);
  return true;
}

// A record with room for N bytes. The size of a record must be a constant, and the verifier must
// see the bounds of the copy right before it: the empty asm keeps the compiler from deriving them
// from what was checked before.
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
    __builtin_memcpy(into->payload, header, 8);                                                                                      \
    s64 n = (s64)r.kept - 8;                                                                                                         \
    asm volatile("" : "+r"(n));                                                                                                      \
    if (N - 8 <= FEW && (xdp || !redirect) && copy_few(into->payload + 8, data + frame, end, n))                                     \
      ;                                                                                                                              \
    else if (n > 0 && n <= N - 8 && load(ctx, xdp, frame, into->payload + 8, n) != 0) {                                              \
      bpf_ringbuf_discard(into, wake);                                                                                               \
      goto full;                                                                                                                     \
    }                                                                                                                                \
    bpf_ringbuf_submit(into, wake);                                                                                                  \
  }

// Wakes a reader whose wish came after the program had looked for one, and takes back the wish that
// is fulfilled. The reader wishes first and then looks for records, here the record comes first and
// then the look; to submit it is a full barrier. So one of both sees the other, however long this
// CPU was stolen in between. A wish that came since is another number, and stays.
static __always_inline void wake_late(void *ring, struct state *state, u32 seen) {
  u32 wish = *(volatile u32 *)&state->set;
  if (!wish)
    return;
  if (wish != seen) {
    void *nothing = bpf_ringbuf_reserve(ring, 8, 0);
    if (!nothing)
      return;
    bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
  }
  __sync_val_compare_and_swap(&state->set, wish, 0);
}

// Does all but for the last step: the packet is left to the stack, is in the ring or counted, or is
// to enter interface number `*enter` with the tag of `*vlans`, if not 0. `tag` is the outermost
// VLAN, where the kernel has taken it off already.
static __always_inline int capture(void *ctx, u8 *data, u8 *end, u64 stamp, u32 interface, u32 tag, u32 *enter, u32 *vlans,
                                   const bool xdp) {
  struct record r = {.flags = stamp ? REAL : 0};
  struct total *total = NULL;
  struct count *count;
  struct state *state;
  u32 at = 14, room, zero = 0;
  u64 tags = tag;
  bool v6 = false;

  if (data + at > end)
    return LEAVE;
  u16 type = *(u16 *)(data + 12);
#pragma unroll
  for (int i = 0; i < 2; i++)
    if (type == bpf_htons(0x8100) || type == bpf_htons(0x88a8)) {
      if (data + at + 4 > end || tags >> 32)
        return LEAVE;
      tags |= ((u64)type << 16 | (bpf_ntohs(*(u16 *)(data + at)) & 0xfff)) << (tags ? 32 : 0);
      type = *(u16 *)(data + at + 2);
      at += 4;
    }

  u32 network = at;
  u8 *ip = data + at;
  if (type == bpf_htons(0x0800)) {
    if (ip + 20 > end)
      return LEAVE;
    u32 head = 20, total = bpf_ntohs(*(u16 *)(ip + 2));
    // Options are the stack's to judge, which refuses source routes and what makes no sense.
    // 0x3fff: an offset, or more to come.
    if (ip[0] != 0x45 || total < head + 8 || ip[9] != 17 || *(u16 *)(ip + 6) & bpf_htons(0x3fff))
      return LEAVE;
    r.source[2] = r.destination[2] = bpf_htonl(0xffff);
    r.source[3] = *(u32 *)(ip + 12);
    r.destination[3] = *(u32 *)(ip + 16);
    room = total - head;
    at += head;
  } else if (type == bpf_htons(0x86dd)) {
    if (ip + 40 > end || ip[0] >> 4 != 6 || ip[6] != 17)
      return LEAVE;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      r.source[i] = *(u32 *)(ip + 8 + 4 * i);
      r.destination[i] = *(u32 *)(ip + 24 + 4 * i);
    }
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
  // The datagram ends where its own length says, whatever follows it in the packet; one that says
  // more than there is is the stack's.
  if (length < 8 || length > room || (at + length > (u64)(end - data) && at + length > whole(ctx, xdp)))
    return LEAVE;
  r.source_port = *(u16 *)udp;
  r.destination_port = *(u16 *)(udp + 2);
  r.checksum = *(u16 *)(udp + 6);
  struct endpoint to = {.port = r.destination_port};
  if (!any_address) {
    to.address[0] = (u64)r.destination[1] << 32 | r.destination[0];
    to.address[1] = (u64)r.destination[3] << 32 | r.destination[2];
    to.port |= (u32)v6 << 16 | (u64)interface << 32;
    to.tags = tags;
    to.ethernet = *(u64 *)data & 0xffffffffffff;
  }
  state = bpf_map_lookup_elem(&states, &zero);
  if (!state || *(volatile u32 *)&state->set)
    return LEAVE;
  u32 wrap = wrap_at(&to, *(volatile u32 *)&state->generation);
  if (!wrap)
    return LEAVE;
  if (is_martian(&r, v6, interface) || (interface != LOOPBACK && is_own(state, r.source)))
    return MARTIAN;
  u32 only = *(volatile u32 *)&state->only;

  at += 8;
  r.length = length - 8;
  u32 keep = *(volatile u32 *)&state->keep;
  r.kept = r.length < keep ? r.length : keep;
  // The header, of GENEVE without its options: two words, in the packet's first piece or not; or
  // what there is of it.
  u32 header[2] = {}, vni = 0;
  u64 part = r.length;
  asm volatile("" : "+r"(part));
  if (part > 0 && part < 8) {
    if (load(ctx, xdp, at, header, part) != 0)
      return LEAVE;
  } else if (part > 0) {
    if (udp + 16 <= end)
      __builtin_memcpy(header, udp + 8, 8);
    else if (load(ctx, xdp, at, header, 8) != 0)
      return LEAVE;
    vni = bpf_ntohl(header[1]) >> 8 & vni_mask;
  }
  u32 frame = at + 8;

  u32 number = rings_by_session ? session(&r, v6, vni) % rings_by_session : bpf_get_smp_processor_id();
  count = bpf_map_lookup_elem(&counts, &number);
  void *ring = bpf_map_lookup_elem(&rings, &number);
  if (!count || !ring)
    return LEAVE;

  // A header without a fault, which tells of nothing but the VNI, and a whole Ethernet header
  // behind it.
  bool faultless = r.length >= 8 + 14 && header[0] == wrap && (bpf_ntohl(header[1]) & 0xff) == 0;
  // And a session that is not allowed: user space would count it and no more. All that is odd goes
  // there.
  if (only && faultless && !is_allowed(only, vni, r.source)) {
    count->unselected++;
    count->unselected_bytes += r.length;
    return TAKE;
  }

  if (r.kept > MOST)
    return LEAVE;

  bool redirected = false, record = true;
  u32 id = vni | (wrap == GENEVE ? IN_GENEVE : 0);
  u8 head[HEAD] = {};
  if (!xdp && redirect) {
    u32 *where = bpf_map_lookup_elem(&target, &zero);
    u32 interface = where ? *(volatile u32 *)where : 0, inner = r.length - 8;
    bool is_marked = true;
    if (*(volatile u32 *)&state->only_marked) {
      struct session key = key_of(&r, id);
      u32 *found = bpf_map_lookup_elem(&marked, &key);
      is_marked = found != NULL;
      *vlans = found ? *found : 0;
    }
    // The kernel takes no header off where less than one of IP is left. Behind the datagram there
    // must be nothing that would become part of the frame, and before its addresses no tag that the
    // kernel has left in the packet.
    if (!faultless || inner < 14 + 20 || at + r.length != whole(ctx, xdp) || network != 14 || r.length > MOST)
      count->odd++;
    else if (!interface)
      count->no_interface++;
    else if (!is_marked)
      count->unmarked++;
    else if (load(ctx, xdp, frame, head, HEAD) != 0)
      count->failed++;
    // Only user space can tell whether that was cut.
    else if (has_three_tags(head))
      count->odd++;
    else if (!strip(ctx, frame, head, v6 && inner < 14 + 40 ? IPV4_IS_LEFT : 0))
      count->failed++;
    else {
      redirected = true;
      *enter = interface;
      ((struct __sk_buff *)ctx)->mark = MARK + number;
      count->redirected++;
      // Now the packet begins with the frame.
      frame = 0;
      r.flags |= REDIRECTED;
      keep = *(volatile u32 *)&state->keep_copy;
      r.kept = r.length < keep ? r.length : keep;
      if (!copy)
        total = total_of(&r, id, &record);
    }
  }
  number++;
  state = bpf_map_lookup_elem(&states, &number);
  if (!record || !state)
    goto full;

  u32 wish = *(volatile u32 *)&state->set;
  u64 wake = wish ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
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
  else
    STORE(MOST)
  count->taken++;
  wake_late(ring, state, wish);
  return redirected ? ENTER : TAKE;
full:
  if (!redirected) {
    // The reader is behind, so it is awake, or about to be woken by a record before this one.
    count->ring_full++;
    return TAKE;
  }
  // User space will not see it, so it is counted here as it would be there.
  count->uncopied++;
  count->uncopied_bytes += r.length;
  if (is_cut(head, r.length - 8))
    count->uncopied_cut++;
  if (!total)
    total = total_of(&r, id, &record);
  if (total) {
    total->frames++;
    total->bytes += r.length - 8;
    if (stamp)
      total->last = stamp;
    if (!total->first)
      total->first = stamp;
  } else {
    count->overflow++;
    count->overflow_bytes += r.length - 8;
  }
  return ENTER;
}

static __always_inline int passed(int action, bool martian) {
  u32 zero = 0;
  struct count *count = bpf_map_lookup_elem(&counts, &zero);
  if (count) {
    count->passed++;
    count->martian += martian;
  }
  return action;
}

SEC("xdp.frags")
int vxtap_xdp(struct xdp_md *ctx) {
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  u32 nowhere, none;
  int what = capture(ctx, data, end, 0, ctx->ingress_ifindex, 0, &nowhere, &none, true);
  return what == TAKE ? XDP_DROP : passed(XDP_PASS, what == MARTIAN);
}

SEC("classifier")
int vxtap_tc(struct __sk_buff *ctx) {
  // Several datagrams that the kernel has merged into one (GRO): the stack takes them apart again.
  if (ctx->gso_size)
    return passed(TC_ACT_UNSPEC, false);
  // The headers can be outside of the first piece.
  if (ctx->data_end - ctx->data < 62 && ctx->len > 62)
    bpf_skb_pull_data(ctx, 62);
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  u32 enter = 0, vlans = 0, tag = ctx->vlan_present ? ctx->vlan_proto << 16 | (ctx->vlan_tci & 0xfff) : 0;
  // The time that the kernel has given the packet, as it does while a socket anywhere asks for it:
  // that of a fragment is the same clock, read at the same place, which keeps both ways in order.
  int what = capture(ctx, data, end, ctx->tstamp, ctx->ifindex, tag, &enter, &vlans, false);
  switch (what) {
  case TAKE:
    return TC_ACT_SHOT;
  case ENTER:
    // What has no tag must not pass for another session's: it does not enter, and is missed there.
    if (vlans && !push(ctx, vlans))
      return TC_ACT_SHOT;
    return bpf_redirect(enter, BPF_F_INGRESS);
  }
  // Not "accept": other programs on the interface are asked too.
  return passed(TC_ACT_UNSPEC, what == MARTIAN);
}

// At tc ingress of the interface that is redirected to, where packet sockets have seen the frame
// already: counts what has come, and keeps it from the host. Frames from user space have no mark.
SEC("classifier")
int vxtap_entered(struct __sk_buff *ctx) {
  u32 number = ctx->mark - MARK;
  struct count *count = bpf_map_lookup_elem(&counts, &number);
  if (count) {
    count->entered++;
    // The kernel has taken a tag off.
    count->entered_bytes += ctx->len + (ctx->vlan_present ? 4 : 0);
  }
  return TC_ACT_SHOT;
}

// No helper of those above is for GPL-compatible programs only.
char program_license[] SEC("license") = "MIT";
