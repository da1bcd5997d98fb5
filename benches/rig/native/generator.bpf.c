/* The generator's half in the kernel.
 *
 * `generate` runs over and over under BPF_PROG_TEST_RUN in live mode and makes a frame of each buffer as long as the
 * pace allows, else gives the buffer back. `number` does the same to frames that come over an interface, for those
 * larger than live mode can make. Both put the frame into a cpumap, which is a deep queue with a thread on each
 * receiving processor, as a network card's ring is. `forward` runs in that thread and hands the frame to the interface
 * under test. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "frames.h"

struct {
    __uint(type, BPF_MAP_TYPE_CPUMAP);
    __uint(max_entries, PROCESSORS);
    __type(key, __u32);
    __type(value, struct bpf_cpumap_val);
} queue SEC(".maps");

/* Set before it starts. */
volatile __u32 length_count = 1, flows = 1024, ports = 64, vnis = 1, first_vni = 7, train = 1;
volatile __u32 burst = 64, lengths[LENGTHS];
volatile __u64 rate, wanted;
/* Which processor receives an outer port, as the indirection table of a network card says it of a hash. */
volatile __u32 receivers[INDIRECTION];
__u8 templates[LENGTHS][TEMPLATE];

/* Counted by the sender's processor. */
volatile __u64 start_ns, end_ns, sent, allowed, late, failed;
/* A receiver's, by its number, in cache lines of its own, so that no processor waits for another's: what it has taken
 * from its queue, and the interface that it hands frames to. */
volatile struct {
    __u64 frames;
    __u32 out_ifindex, padding[29];
} taken[PROCESSORS] __attribute__((aligned(128)));

/* Writes them, and puts the frame into the queue of its outer port's receiver. */
static __always_inline int send(__u8 *frame, __u32 length, __u64 n)
{
    __u64 conversation = n / train;
    __u16 flow = conversation % flows, port = flow % ports;
    __builtin_memcpy(frame, templates[length], TEMPLATE);
    *(__u16 *)(frame + OUTER_SOURCE_PORT) = bpf_htons(49152 + port);
    *(__u32 *)(frame + VNI_AT) = bpf_htonl((__u32)(first_vni + conversation % vnis) << 8);
    /* The low half of the inner source address is the flow's number; the checksum follows (RFC 1624). */
    __u16 low = bpf_htons(flow);
    __u32 sum = (__u16) ~*(__u16 *)(frame + INNER_CHECKSUM);
    sum += low;
    sum = (sum & 0xffff) + (sum >> 16);
    *(__u16 *)(frame + INNER_CHECKSUM) = ~(__u16)sum;
    *(__u16 *)(frame + INNER_SOURCE_LOW) = low;
    *(__u64 *)(frame + NUMBER) = n;
    sent = n + 1;
    if (n + 1 >= wanted)
        end_ns = bpf_ktime_get_ns();
    return bpf_redirect_map(&queue, receivers[port % INDIRECTION], 0);
}

/* Some milliseconds of looks at the clock: softirqs wait meanwhile. */
#define LONGEST_WAIT 100000
/* When all is sent, each buffer of a batch waits this long once more; the run can be ended between batches. */
#define LAST_WAIT 1000

static long idle(__u32 turn, void *nothing)
{
    (void)turn, (void)nothing;
    bpf_ktime_get_ns();
    return 0;
}

/* Ends the wait once a burst is due. */
static long look(__u32 turn, __u64 *due)
{
    (void)turn;
    *due = (bpf_ktime_get_ns() - start_ns) * rate / 1000000000;
    return *due >= sent + burst;
}

/* Waits until it is time for the next burst, and allows as many as are due. The wait is here, with a buffer in hand:
 * giving it back at once and coming with the next one takes the lock under which the receiver's processor gives its
 * buffers back, a million times a second, and the receiver pays for it. */
static __always_inline int in_time(__u64 n)
{
    if (n < allowed)
        return 1;
    __u64 due = 0;
    bpf_loop(LONGEST_WAIT, look, &due, 0);
    if (due < n + burst)
        return 0;
    /* Behind by more than a moment: this processor was away, or is too slow. What was missed is not caught up
     * with, which would be a burst that nobody asked for; it makes the offered rate lower, which is reported. */
    if (due > n + 1024) {
        __u64 missed = due - (n + 256);
        late += missed;
        start_ns += missed * 1000000000 / rate;
        due = n + 256;
    }
    allowed = n + (due - n) / burst * burst;
    return 1;
}

SEC("xdp.frags")
int generate(struct xdp_md *ctx)
{
    __u64 n = sent;
    if (n >= wanted) {
        bpf_loop(LAST_WAIT, idle, 0, 0);
        return XDP_DROP;
    }
    if (!in_time(n))
        return XDP_DROP;
    __u32 length = n / train % length_count;
    if (length >= LENGTHS)
        return XDP_ABORTED;
    int more = (int)lengths[length] - (int)(ctx->data_end - ctx->data);
    if (more && bpf_xdp_adjust_tail(ctx, more)) {
        failed++;
        return XDP_ABORTED;
    }
    __u8 *frame = (void *)(long)ctx->data;
    if (frame + WRITTEN > (__u8 *)(long)ctx->data_end)
        return XDP_ABORTED;
    return send(frame, length, n);
}

SEC("xdp.frags")
int number(struct xdp_md *ctx)
{
    __u8 *frame = (void *)(long)ctx->data;
    __u64 n = sent;
    if (frame + WRITTEN > (__u8 *)(long)ctx->data_end || n >= wanted)
        return XDP_DROP;
    return send(frame, 0, n);
}

SEC("xdp.frags/cpumap")
int forward(struct xdp_md *ctx)
{
    __u32 here = bpf_get_smp_processor_id() % PROCESSORS;
    taken[here].frames++;
    return bpf_redirect(taken[here].out_ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
