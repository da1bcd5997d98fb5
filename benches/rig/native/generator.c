/* Offers VXLAN frames to an interface at a given rate, a given number of them, from one processor to others.
 *
 *   generator KEY=VALUE...      prints one JSON object
 *
 * See `usage` for the keys. Frames up to 3,400 bytes come from BPF_PROG_TEST_RUN in live mode, about 5 million a
 * second; larger ones from a packet socket into the interface `jumbo_in`, whose far end `jumbo_out` numbers them.
 * Both kinds go through the same queues; all frames of an outer port go to one processor. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"
#include "generator.skel.h"

/* What live mode can make: a page less its headroom, its tailroom and the kernel's own notes. */
#define LIVE_FRAME 3400
#define LARGEST 9200
#define RECEIVERS 16

static const char usage[] =
    "usage: generator KEY=VALUE...\n"
    "  lengths=64,594,...  inner frames' lengths, taken in turn (42-9014, up to 16)\n"
    "  rate=N              frames a second\n"
    "  count=N             frames in all\n"
    "  out=NAME            the interface to redirect into; its far end is under test\n"
    "  to_mac=, to_ip=     outer destination; from_ip= outer source\n"
    "  cpus=N,...          the receiving processors (up to 16)\n"
    "  depth=N             frames that the queue before each holds (8192)\n"
    "  fifo=N              real-time priority of the queues' threads, 0 for none (0)\n"
    "  nice=N              their nice value otherwise, and that of the sender and its session (0)\n"
    "  flows=, ports=, vnis=, vni=, train=   inner flows (1024), outer ports (64), VNIs (1), the first (7), and frames\n"
    "                      that follow each other in one flow and VNI (1)\n"
    "  burst=N             frames gathered before they are sent, as interrupt moderation does (64, at most 64)\n"
    "  jumbo_in=, jumbo_out=  a pair of interfaces for frames beyond 3,400 bytes\n"
    "  limit=SECONDS       gives up then (60)\n";

static struct {
    unsigned lengths[LENGTHS], length_count, cpus[RECEIVERS], cpu_count, depth, fifo, flows, ports, vnis, vni, train, burst;
    unsigned long rate, count;
    int nice;
    double limit;
    const char *out, *jumbo_in, *jumbo_out;
    unsigned char to_mac[6];
    struct in_addr to, from;
} plan = {.depth = 8192, .flows = 1024, .ports = 64, .vnis = 1, .vni = 7, .train = 1, .burst = 64, .limit = 60};

static void fail(const char *what)
{
    fprintf(stderr, "generator: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void parse(int argc, char **argv)
{
    static const struct {
        const char *key;
        unsigned *value;
    } numbers[] = {{"depth", &plan.depth}, {"fifo", &plan.fifo}, {"flows", &plan.flows}, {"ports", &plan.ports},
                   {"vnis", &plan.vnis},   {"vni", &plan.vni},   {"train", &plan.train}, {"burst", &plan.burst}};
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        int known = 0;
        if (value) {
            *value++ = 0;
            known = 1;
            if (!strcmp(argv[i], "lengths")) {
                for (char *s = strtok(value, ","); s && plan.length_count < LENGTHS; s = strtok(NULL, ","))
                    plan.lengths[plan.length_count++] = OUTER + atoi(s);
            } else if (!strcmp(argv[i], "cpus")) {
                for (char *s = strtok(value, ","); s && plan.cpu_count < RECEIVERS; s = strtok(NULL, ","))
                    plan.cpus[plan.cpu_count++] = atoi(s);
            } else if (!strcmp(argv[i], "rate"))
                plan.rate = strtoul(value, NULL, 10);
            else if (!strcmp(argv[i], "count"))
                plan.count = strtoul(value, NULL, 10);
            else if (!strcmp(argv[i], "nice"))
                plan.nice = atoi(value);
            else if (!strcmp(argv[i], "limit"))
                plan.limit = atof(value);
            else if (!strcmp(argv[i], "out"))
                plan.out = value;
            else if (!strcmp(argv[i], "jumbo_in"))
                plan.jumbo_in = value;
            else if (!strcmp(argv[i], "jumbo_out"))
                plan.jumbo_out = value;
            else if (!strcmp(argv[i], "to_ip"))
                inet_aton(value, &plan.to);
            else if (!strcmp(argv[i], "from_ip"))
                inet_aton(value, &plan.from);
            else if (!strcmp(argv[i], "to_mac")) {
                for (int b = 0; b < 6; b++, value++)
                    plan.to_mac[b] = strtoul(value, &value, 16);
            } else {
                known = 0;
                for (unsigned k = 0; k < sizeof numbers / sizeof *numbers; k++)
                    if (!strcmp(argv[i], numbers[k].key)) {
                        *numbers[k].value = strtoul(value, NULL, 10);
                        known = 1;
                    }
            }
        }
        if (!known) {
            fprintf(stderr, "generator: %s?\n%s", argv[i], usage);
            exit(2);
        }
    }
    int good = plan.burst && plan.burst <= 64 && plan.rate && plan.count && plan.out && plan.length_count && plan.cpu_count &&
               plan.flows && plan.ports && plan.vnis && plan.train && plan.flows <= 65536 && plan.ports <= 16384;
    for (unsigned i = 0; i < plan.length_count; i++)
        good &= plan.lengths[i] >= WRITTEN && plan.lengths[i] <= LARGEST;
    for (unsigned i = 0; i < plan.cpu_count; i++)
        good &= plan.cpus[i] < PROCESSORS;
    if (!good) {
        fputs(usage, stderr);
        exit(2);
    }
}

static unsigned short checksum(const unsigned char *p, int length)
{
    unsigned sum = 0;
    for (int i = 0; i < length; i += 2)
        sum += p[i] << 8 | p[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static void put16(unsigned char *p, unsigned value)
{
    p[0] = value >> 8;
    p[1] = value;
}

static void ipv4(unsigned char *ip, unsigned length, struct in_addr from, struct in_addr to)
{
    ip[0] = 0x45;
    put16(ip + 2, length);
    ip[6] = 0x40; /* do not fragment */
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    memcpy(ip + 12, &from, 4);
    memcpy(ip + 16, &to, 4);
    put16(ip + 10, checksum(ip, 20));
}

/* UDP without a checksum, as a cloud mirror sends it. */
static void udp(unsigned char *p, unsigned from, unsigned to, unsigned length)
{
    put16(p, from);
    put16(p + 2, to);
    put16(p + 4, length);
}

static void make_template(unsigned char *frame, unsigned length)
{
    static const unsigned char outer_source[] = {2, 0, 0, 0, 0, 1}, inner[] = {2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1, 8, 0};
    memset(frame, 0, TEMPLATE);
    memcpy(frame, plan.to_mac, 6);
    memcpy(frame + 6, outer_source, 6);
    put16(frame + 12, ETHERTYPE_IP);
    ipv4(frame + 14, length - 14, plan.from, plan.to);
    udp(frame + 34, 49152, 4789, length - 34);
    frame[42] = 8;
    memcpy(frame + OUTER, inner, sizeof inner);
    ipv4(frame + OUTER + 14, length - OUTER - 14, (struct in_addr){htonl(0xc0a80000)}, (struct in_addr){htonl(0xac100009)});
    udp(frame + OUTER + 34, 12345, 9999, length - OUTER - 34);
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static unsigned long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000UL + t.tv_nsec;
}

/* The thread of a queue: the kernel names it after the processor and the map. */
static int queue_thread(unsigned cpu, unsigned map)
{
    char wanted[64], path[300], name[64];
    snprintf(wanted, sizeof wanted, "cpumap/%u/map:%u\n", cpu, map);
    DIR *processes = opendir("/proc");
    int found = 0;
    for (struct dirent *entry; processes && !found && (entry = readdir(processes));) {
        int pid = atoi(entry->d_name);
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        FILE *file = pid ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        if (fgets(name, sizeof name, file) && !strcmp(name, wanted))
            found = pid;
        fclose(file);
    }
    if (processes)
        closedir(processes);
    return found;
}

/* Nanoseconds that a thread ran, and that it waited for a processor. */
static void ran(int pid, unsigned long *running, unsigned long *waiting)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    FILE *file = fopen(path, "r");
    *running = *waiting = 0;
    if (file) {
        if (fscanf(file, "%lu %lu", running, waiting) != 2)
            *running = 0;
        fclose(file);
    }
}

static struct generator_bpf *kernel;
static int threads[RECEIVERS]; /* of the queues */
static volatile sig_atomic_t over;

/* A queue for each receiving processor, each with its thread. */
static void make_queues(void)
{
    struct bpf_cpumap_val entry = {.qsize = plan.depth, .bpf_prog.fd = bpf_program__fd(kernel->progs.forward)};
    int queue = bpf_map__fd(kernel->maps.queue);
    struct bpf_map_info info = {0};
    unsigned size = sizeof info;
    bpf_obj_get_info_by_fd(queue, &info, &size);
    struct sched_param priority = {.sched_priority = plan.fifo};
    for (unsigned i = 0; i < plan.cpu_count; i++) {
        kernel->bss->taken[plan.cpus[i]].out_ifindex = if_nametoindex(plan.out);
        if (bpf_map_update_elem(queue, &plan.cpus[i], &entry, 0))
            fail("cpumap");
        threads[i] = queue_thread(plan.cpus[i], info.id);
        if (!threads[i])
            fail("the queue's thread is not found");
        if (plan.fifo && sched_setscheduler(threads[i], SCHED_FIFO, &priority))
            fail("sched_setscheduler");
        if (plan.nice && setpriority(PRIO_PROCESS, threads[i], plan.nice))
            fail("setpriority");
    }
    /* In turn, shifted by one after a while: VNIs and lengths take turns too, and are not to go with a processor. */
    for (unsigned i = 0; i < INDIRECTION; i++)
        kernel->bss->receivers[i] = plan.cpus[(i + i / 16) % plan.cpu_count];
}

static unsigned long queue_threads_ns(void)
{
    unsigned long sum = 0, running, waiting;
    for (unsigned i = 0; i < plan.cpu_count; i++) {
        ran(threads[i], &running, &waiting);
        sum += running;
    }
    return sum;
}

static unsigned long taken(void)
{
    unsigned long sum = 0;
    for (unsigned i = 0; i < plan.cpu_count; i++)
        sum += kernel->bss->taken[plan.cpus[i]].frames;
    return sum;
}

static void wake(int signal) { (void)signal; }

/* Ends the test run, which a signal interrupts, once all is sent or it has taken too long. */
static void *watch(void *sender)
{
    double end = seconds_of(CLOCK_MONOTONIC) + plan.limit;
    while (kernel->bss->sent < plan.count && seconds_of(CLOCK_MONOTONIC) < end)
        usleep(2000);
    while (!over) {
        pthread_kill(*(pthread_t *)sender, SIGUSR1);
        usleep(2000);
    }
    return NULL;
}

static void send_live(unsigned largest)
{
    unsigned char *frame = calloc(1, LARGEST);
    make_template(frame, largest);
    for (unsigned i = WRITTEN; i < largest; i++)
        frame[i] = i * 7;
    pthread_t self = pthread_self(), watcher;
    signal(SIGUSR1, wake);
    struct sigaction interrupt = {.sa_handler = wake};
    sigaction(SIGUSR1, &interrupt, NULL);
    /* A batch is a burst, after which the queue's thread is woken. */
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = largest, .repeat = 0x7fffffff,
                .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = plan.burst);
    pthread_create(&watcher, NULL, watch, &self);
    kernel->bss->start_ns = now_ns();
    int error = 0;
    double end = seconds_of(CLOCK_MONOTONIC) + plan.limit;
    /* It returns too when its repetitions, empty ones included, have come to an end. */
    while (!error && kernel->bss->sent < plan.count && seconds_of(CLOCK_MONOTONIC) < end) {
        error = bpf_prog_test_run_opts(bpf_program__fd(kernel->progs.generate), &run);
        if (error && errno == EINTR)
            error = 0;
    }
    over = 1;
    pthread_join(watcher, NULL);
    if (error)
        fail("BPF_PROG_TEST_RUN");
    free(frame);
}

/* Sends by a packet socket, past the queueing discipline; the far end's program numbers the frames. */
static void send_jumbo(unsigned length)
{
    enum { BATCH = 32 };
    static unsigned char frame[LARGEST];
    make_template(frame, length);
    for (unsigned i = WRITTEN; i < length; i++)
        frame[i] = i * 7;
    int socket_fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(plan.jumbo_in)};
    if (socket_fd < 0 || bind(socket_fd, (struct sockaddr *)&address, sizeof address) ||
        setsockopt(socket_fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one))
        fail("packet socket");
    struct iovec piece = {frame, length};
    struct mmsghdr messages[BATCH];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1};
    unsigned long given = 0;
    double end = seconds_of(CLOCK_MONOTONIC) + plan.limit;
    unsigned long start = now_ns();
    kernel->bss->start_ns = start;
    while (given < plan.count && seconds_of(CLOCK_MONOTONIC) < end) {
        unsigned long now = now_ns(), due = (unsigned long)((now - start) / 1e9 * plan.rate), n = plan.burst;
        if (n > plan.count - given)
            n = plan.count - given;
        if (due < given + n)
            continue;
        if (due > given + 1024) {
            unsigned long missed = due - given - 256;
            kernel->bss->late += missed;
            start += missed * 1e9 / plan.rate;
        }
        while (n) {
            int went = sendmmsg(socket_fd, messages, n < BATCH ? n : BATCH, 0);
            if (went < 0 && errno != ENOBUFS && errno != EAGAIN)
                fail("sendmmsg");
            if (went > 0) {
                n -= went;
                given += went;
            }
        }
    }
    close(socket_fd);
    kernel->bss->failed += given - kernel->bss->sent;
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    unsigned largest = 0;
    for (unsigned i = 0; i < plan.length_count; i++)
        largest = plan.lengths[i] > largest ? plan.lengths[i] : largest;
    int jumbo = largest > LIVE_FRAME;
    if (jumbo && (plan.length_count > 1 || !plan.jumbo_in || !plan.jumbo_out)) {
        fprintf(stderr, "generator: frames beyond %d bytes are of one length and need jumbo_in and jumbo_out\n", LIVE_FRAME);
        return 2;
    }
    kernel = generator_bpf__open();
    if (!kernel)
        fail("open");
    bpf_program__set_expected_attach_type(kernel->progs.forward, BPF_XDP_CPUMAP);
    if (generator_bpf__load(kernel))
        fail("load");
    for (unsigned i = 0; i < plan.length_count; i++) {
        kernel->bss->lengths[i] = plan.lengths[i];
        make_template(kernel->bss->templates[i], plan.lengths[i]);
    }
    kernel->data->length_count = plan.length_count;
    kernel->data->flows = plan.flows;
    kernel->data->ports = plan.ports;
    kernel->data->vnis = plan.vnis;
    kernel->data->first_vni = plan.vni;
    kernel->data->train = plan.train;
    kernel->data->burst = plan.burst;
    kernel->bss->rate = plan.rate;
    kernel->bss->wanted = plan.count;
    make_queues();

    if (plan.nice) {
        /* Where the scheduler groups processes by session, a process's own value counts within the group only. */
        FILE *group = fopen("/proc/self/autogroup", "w");
        if (group) {
            fprintf(group, "%d", plan.nice);
            fclose(group);
        }
        setpriority(PRIO_PROCESS, 0, plan.nice);
    }

    unsigned long threads_before = queue_threads_ns(), own_before, own_after, waited_before, waited_after;
    ran(getpid(), &own_before, &waited_before);
    if (jumbo) {
        unsigned out = if_nametoindex(plan.jumbo_out);
        if (bpf_xdp_attach(out, bpf_program__fd(kernel->progs.number), XDP_FLAGS_DRV_MODE, NULL))
            fail("attach to jumbo_out");
        send_jumbo(largest);
        bpf_xdp_detach(out, XDP_FLAGS_DRV_MODE, NULL);
    } else {
        send_live(largest);
    }
    ran(getpid(), &own_after, &waited_after);

    /* The queues empty: nothing was taken for a while. */
    unsigned long before;
    int still = 0;
    for (int i = 0; i < 1000 && still < 25; i++) {
        before = taken();
        usleep(2000);
        still = taken() == before ? still + 1 : 0;
    }
    unsigned long threads_ns = queue_threads_ns() - threads_before;
    unsigned long end = kernel->bss->end_ns ? kernel->bss->end_ns : now_ns();
    double seconds = (end - kernel->bss->start_ns) / 1e9 + (double)(jumbo ? 0 : kernel->bss->late) / plan.rate;
    printf("{\"asked\": %lu, \"sent\": %llu, \"seconds\": %.6f, \"rate\": %.0f, \"late\": %llu, \"failed\": %llu, "
           "\"queue_thread_ns\": %lu, \"waited_ns\": %lu, \"end_ns\": %lu, \"taken\": [",
           plan.count, (unsigned long long)kernel->bss->sent, seconds, kernel->bss->sent / seconds,
           (unsigned long long)kernel->bss->late, (unsigned long long)kernel->bss->failed,
           threads_ns, waited_after - waited_before, end);
    for (unsigned i = 0; i < plan.cpu_count; i++)
        printf("%s%llu", i ? ", " : "", (unsigned long long)kernel->bss->taken[plan.cpus[i]].frames);
    puts("]}");
    generator_bpf__destroy(kernel);
    return 0;
}
