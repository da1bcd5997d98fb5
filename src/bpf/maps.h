// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The maps and settings that the program shares with user space, and what precedes a datagram in a
// ring.
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

typedef __u64 u64;
typedef __s64 s64;
typedef __u32 u32;
typedef __s32 s32;
typedef __u16 u16;
typedef __u8 u8;

// Precedes a datagram in the ring: 56 bytes, so that the payload begins 64 bytes after the kernel's
// own header of 8 does, and records whose room for it is a multiple of 64 begin and end with a
// cache line. Mirrored in source/bpf/record.rs.
struct record {
  u64 time;    // CLOCK_MONOTONIC, or CLOCK_REALTIME
  u32 length;  // of the UDP payload
  u32 kept;    // of that, bytes that follow
  u32 source[4], destination[4];                      // network order; IPv4 as IPv4-mapped IPv6
  u16 source_port, destination_port, checksum;        // network order
  u16 flags;
};
enum {
  REAL = 1,       // the time is CLOCK_REALTIME
  REDIRECTED = 2, // a copy: the frame itself enters the interface
};

// Set before the program is loaded, so the verifier drops what is not used.
const volatile u32 rings_by_session = 0; // rings to choose from by session; 0: the CPU's own
// Take datagrams whoever they are addressed to: `listening` has the address ::.
const volatile bool any_address = false;
const volatile u32 vni_mask = 0xffffff; // the bits of a VNI that name the network
const volatile bool redirect = false;    // at tc: into the interface of `target`
// Put a copy of what is redirected into the ring. The first frame of a session has one in any case.
const volatile bool copy = true;

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

// States by which user space tells what to do, a cache line each. The first is for the program,
// number n + 1 for ring n.
struct state {
  // Of the program: leave everything to the stack. Of a ring: wake its reader, which sleeps or is about
  // to; a number for each time that it asks.
  u32 set;
  u32 only;       // of the program: take only what these lists have
  u32 generation; // of `listening`: changes when something has been removed
  u32 own[8];     // of the program: a bit by `own_bit` for each address in `own`
  u32 keep;       // of the program: bytes of a payload to copy at most
  u32 keep_copy;  // and of one whose frame is redirected
  u32 only_marked; // of the program: redirect only sessions that `marked` has
  u32 pad[2];
};
enum { ONLY_VNIS = 1, ONLY_SOURCES = 2, NETWORKS = 4 }; // NETWORKS: `networks` has some
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, u32);
  __type(value, struct state);
} states SEC(".maps");

// Counters of what became of packets, for each ring. Mirrored in source/bpf/counts.rs.
struct count {
  u64 taken;            // put into the ring
  u64 ring_full;        // lost, since the ring had no room
  u64 unselected;       // faultless, of a session that is not allowed: dropped
  u64 unselected_bytes; // of their payloads
  u64 passed;           // left to the stack; in the count of ring 0
  u64 martian;          // of these, to `listening` and from an address that no other host has
  // Of redirection. What is odd, failed or came while there was no interface went into the ring.
  u64 redirected;      // on its way into the interface
  u64 entered;         // of that, come out of it, behind the sniffers
  u64 entered_bytes;   // of these frames
  u64 odd;             // not faultless
  u64 failed;          // the headers could not be taken off
  u64 no_interface;    // nothing in `target`
  u64 unmarked;        // of a session that `marked` does not have
  u64 uncopied;        // redirected and not in the ring; in `sessions`, or beyond its limit
  u64 uncopied_bytes;  // of their payloads
  u64 uncopied_cut;    // of these, by their IP header longer than what came
  u64 overflow;        // of these, of sessions beyond the limit
  u64 overflow_bytes;  // of their frames
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, u32);
  __type(value, struct count);
} counts SEC(".maps");

// An endpoint says whom a datagram is for, and where it comes in. In words, which are compared one
// by one; with `any_address` all are zero but for the port. Mirrored in source/bpf/place.rs.
struct endpoint {
  u64 address[2]; // network order; IPv4 as IPv4-mapped IPv6
  // In network order. From bit 16 on whether it is an IPv6 packet, which can have a mapped address
  // too; from bit 32 on the number of the interface.
  u64 port;
  // VLANs, 32 bits each from the outermost on: the number, and from bit 16 on the EtherType in
  // network order.
  u64 tags;
  u64 ethernet; // destination of the frame
};
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __type(key, struct endpoint);
  __type(value, u32);
} listening SEC(".maps");
// What comes to an endpoint, by the first word of a header without a fault: VXLAN with the I flag
// alone; or GENEVE of version 0 without options and flags, which announces an Ethernet frame.
// Mirrored in source/bpf/place.rs.
#define VXLAN bpf_htonl(0x08000000)
#define GENEVE bpf_htonl(0x00006558)

// The endpoint that a CPU found in `listening` last: most come to the same endpoint, and comparing
// takes a tenth of the time.
struct known {
  struct endpoint to;
  u32 generation;
  u32 wrap; // what comes there
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, u32);
  __type(value, struct known);
} found SEC(".maps");

// The allow-lists. They change while the program runs: what is new is entered first, and what is
// not allowed any more removed last. User space makes them small where there are none. A bit for
// each VNI, the lowest of a word first: a range costs no more than one VNI.
#define VNIS 512
struct vni_bits {
  u64 words[VNIS / 64];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, (1 << 24) / VNIS);
  __type(key, u32);
  __type(value, struct vni_bits);
} vnis SEC(".maps");

// Single addresses, which a hash finds at once, and networks. Room for two lists of each that have
// nothing in common (`source::allowed::MOST`).
struct source {
  u32 address[4]; // network order; IPv4 as IPv4-mapped IPv6
};
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 2 * 65536);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct source);
  __type(value, u8);
} sources SEC(".maps");

struct prefix {
  u32 length; // in bits
  u32 address[4];
};
struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 2 * 65536);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct prefix);
  __type(value, u8);
} networks SEC(".maps");

// Addresses of this host, and its networks' for broadcasts.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __type(key, struct source);
  __type(value, u8);
} own SEC(".maps");

// The number of the interface to redirect to, or 0.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, u32);
  __type(value, u32);
} target SEC(".maps");

// Totals of what was redirected and is not in a ring, by session. Mirrored in
// source/bpf/redirect.rs.
struct session {
  u32 source[4];
  u32 id; // the VNI, and IN_GENEVE
};
#define IN_GENEVE (1u << 24)
struct total {
  u64 frames, bytes;
  u64 first, last; // CLOCK_REALTIME
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(max_entries, 1);
  __type(key, struct session);
  __type(value, struct total);
} sessions SEC(".maps");

// The sessions that are redirected where not all are, each with the VLANs of its tag: that of the
// outer or only tag, and from bit 16 on that of the inner one; 0 for none. User space makes it small
// where nothing is redirected.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1);
  __type(key, struct session);
  __type(value, u32);
} marked SEC(".maps");
