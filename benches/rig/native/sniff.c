/* Counts the generator's inner frames on an interface, as an IDS receives them: a TPACKET_V3 ring of 32 MiB.
 *
 *   sniff INTERFACE     until SIGINT, then prints one JSON object */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { BLOCK = 1 << 20, BLOCKS = 32 };

static volatile sig_atomic_t stop;
static void on_signal(int signal) { stop = signal; }

int main(int argc, char **argv)
{
    static const unsigned char inner_destination[] = {2, 0, 0, 0, 1, 2};
    if (argc != 2 || !if_nametoindex(argv[1])) {
        fputs("usage: sniff INTERFACE\n", stderr);
        return 2;
    }
    int fd = socket(AF_PACKET, SOCK_RAW, 0), version = TPACKET_V3;
    struct tpacket_req3 ring = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = 16384,
                                .tp_frame_nr = BLOCK / 16384 * BLOCKS, .tp_retire_blk_tov = 10};
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = if_nametoindex(argv[1])};
    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring)) {
        perror("packet socket");
        return 1;
    }
    unsigned char *memory = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED || bind(fd, (struct sockaddr *)&address, sizeof address)) {
        perror("ring");
        return 1;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    fputs("listening on\n", stderr);

    unsigned long frames = 0, foreign = 0, bytes = 0;
    for (unsigned next = 0, empty = 0; !stop || empty < 2;) {
        struct tpacket_block_desc *block = (void *)(memory + (size_t)next * BLOCK);
        if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
            struct pollfd ready = {.fd = fd, .events = POLLIN};
            empty = poll(&ready, 1, stop ? 20 : 500) > 0 ? 0 : empty + 1;
            continue;
        }
        struct tpacket3_hdr *packet = (void *)((unsigned char *)block + block->hdr.bh1.offset_to_first_pkt);
        for (unsigned i = 0; i < block->hdr.bh1.num_pkts; i++) {
            if (!memcmp((unsigned char *)packet + packet->tp_mac, inner_destination, 6)) {
                frames++;
                bytes += packet->tp_len;
            } else {
                foreign++;
            }
            packet = (void *)((unsigned char *)packet + packet->tp_next_offset);
        }
        __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        next = (next + 1) % BLOCKS;
        empty = 0;
    }
    struct tpacket_stats_v3 stats = {0};
    socklen_t size = sizeof stats;
    getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size);
    printf("{\"frames\": %lu, \"bytes\": %lu, \"foreign\": %lu, \"ring_dropped\": %u}\n", frames, bytes, foreign, stats.tp_drops);
    return 0;
}
