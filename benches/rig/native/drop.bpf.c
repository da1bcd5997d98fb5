/* Drops what arrives: what is left is the rig's own cost. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp.frags")
int drop(struct xdp_md *ctx)
{
    (void)ctx;
    return XDP_DROP;
}
