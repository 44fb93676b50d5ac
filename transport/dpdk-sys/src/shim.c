/*
 * The calls into DPDK that msgr needs, one per burst and not one per packet. No structure of DPDK
 * crosses into Rust: its layouts and its inline functions stay on this side. lib.rs mirrors the
 * structures below. Calls that can fail return a negative errno.
 */
#define _GNU_SOURCE
#define ALLOW_EXPERIMENTAL_API /* for rte_eth_dev_conf_get */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include <rte_alarm.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

#define TX_BURST 256
/* Headers, and the whole of a short message: fetched as soon as a frame is known. */
#define FRAME_START 256
#define ETHER_LEN RTE_ETHER_HDR_LEN

enum { UNKNOWN, GOOD, BAD };
enum { RX_CHECKSUM = 1, TX_CHECKSUM = 2, TX_IPV4 = 4, TX_TSO4 = 8 };
enum { OFFLOAD_NONE, OFFLOAD_IPV4, OFFLOAD_IPV6 };

struct frame {
    struct rte_mbuf *mbuf;
    uint8_t *data;
    uint32_t len;
    uint8_t checksums; /* received: UNKNOWN, GOOD, BAD */
    uint8_t offload;   /* to transmit: OFFLOAD_* */
    uint16_t ip_len, tcp_len, segment;
};

struct info {
    char driver[32];
    uint8_t mac[6];
    uint16_t max_mtu, max_rx_queues, max_tx_queues;
    uint32_t offloads;
};

struct setup {
    struct rte_mempool *pool;
    uint16_t queues, rx_descriptors, tx_descriptors, mtu;
    uint32_t offloads;
    uint32_t interrupts;
};

struct stats {
    uint64_t missed, rx_errors, tx_errors, rx_no_memory;
};

typedef void log_fn(uint32_t level, const char *text, size_t len);

_Static_assert(sizeof(struct frame) == 32 && sizeof(struct info) == 48 &&
               sizeof(struct setup) == 24, "lib.rs has the same");

/* ---- process ---- */

static log_fn *log_to;

static ssize_t write_log(void *cookie, const char *text, size_t len)
{
    (void)cookie;
    log_to(rte_log_cur_msg_loglevel(), text, len);
    return len;
}

static const char *version(void) { return rte_version(); }

static int start(int argc, char **argv, log_fn *log)
{
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_log});

    if (!stream)
        return -ENOMEM;
    log_to = log;
    rte_openlog_stream(stream);
    return rte_eal_init(argc, argv) < 0 ? -(rte_errno ? rte_errno : EINVAL) : 0;
}

static int register_thread(void) { return rte_thread_register() ? -rte_errno : 0; }

static void unregister_thread(void) { rte_thread_unregister(); }

/* ---- ports ---- */

static int attach(const char *devargs, uint16_t *port)
{
    char name[RTE_ETH_NAME_MAX_LEN];
    size_t len = strcspn(devargs, ",");
    int error;

    if (len >= sizeof name)
        return -ENAMETOOLONG;
    memcpy(name, devargs, len);
    name[len] = 0;
    /* It may have been named in the arguments of the EAL. */
    if (rte_eth_dev_get_port_by_name(name, port) == 0)
        return 0;
    error = rte_dev_probe(devargs);
    return error ? error : rte_eth_dev_get_port_by_name(name, port);
}

/* How plugins are loaded, their symbols are not global, and their path has a version in it. */
static int find_ring_plugin(struct dl_phdr_info *object, size_t size, void *handle)
{
    (void)size;
    if (!strstr(object->dlpi_name, "librte_net_ring.so"))
        return 0;
    *(void **)handle = dlopen(object->dlpi_name, RTLD_NOW | RTLD_NOLOAD);
    return 1;
}

static void free_rings(struct rte_ring **rings, uint16_t count)
{
    void *mbuf;

    for (uint16_t i = 0; i < count; i++) {
        while (rings[i] && rte_ring_dequeue(rings[i], &mbuf) == 0)
            rte_pktmbuf_free(mbuf);
        rte_ring_free(rings[i]);
    }
}

typedef int from_rings(const char *, struct rte_ring *const[], unsigned int,
                       struct rte_ring *const[], unsigned int, unsigned int);

/* Two ports; what goes into queue i of one comes out of queue i of the other. */
static int ring_pair(const char *name, uint16_t queues, uint32_t size, struct rte_ring **rings,
                     uint16_t *ports)
{
    char text[RTE_RING_NAMESIZE];
    void *plugin = NULL;
    from_rings *make;
    int a, b, socket = rte_socket_id_by_idx(0);

    dl_iterate_phdr(find_ring_plugin, &plugin);
    make = plugin ? (from_rings *)dlsym(plugin, "rte_eth_from_rings") : NULL;
    if (!make)
        return -ENOSYS;
    for (uint16_t i = 0; i < 2 * queues; i++) {
        snprintf(text, sizeof text, "%s_%u", name, i);
        rings[i] = rte_ring_create(text, size, socket, RING_F_SP_ENQ | RING_F_SC_DEQ);
        if (!rings[i]) {
            int error = -rte_errno;
            free_rings(rings, i);
            return error;
        }
    }
    snprintf(text, sizeof text, "%sa", name);
    a = make(text, rings, queues, rings + queues, queues, socket);
    snprintf(text, sizeof text, "%sb", name);
    b = a < 0 ? a : make(text, rings + queues, queues, rings, queues, socket);
    if (b < 0) {
        int error = -(rte_errno ? rte_errno : EINVAL);
        if (a >= 0)
            rte_eth_dev_close(a);
        free_rings(rings, 2 * queues);
        return error;
    }
    ports[0] = a;
    ports[1] = b;
    return 0;
}

static int info(uint16_t port, struct info *out)
{
    struct rte_eth_dev_info dev;
    struct rte_ether_addr mac;
    uint32_t overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
    int error = rte_eth_dev_info_get(port, &dev);

    if (!error)
        error = rte_eth_macaddr_get(port, &mac);
    if (error)
        return error;
    memset(out, 0, sizeof *out);
    snprintf(out->driver, sizeof out->driver, "%s", dev.driver_name);
    memcpy(out->mac, mac.addr_bytes, sizeof out->mac);
    /* As rte_eth_dev_configure will check it. */
    if (dev.max_mtu != UINT16_MAX && dev.max_rx_pktlen > dev.max_mtu)
        overhead = dev.max_rx_pktlen - dev.max_mtu;
    out->max_mtu = RTE_MIN((uint32_t)dev.max_mtu, dev.max_rx_pktlen - overhead);
    out->max_rx_queues = dev.max_rx_queues;
    out->max_tx_queues = dev.max_tx_queues;
    if (dev.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TCP_CKSUM)
        out->offloads |= RX_CHECKSUM;
    if (dev.tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_CKSUM)
        out->offloads |= TX_CHECKSUM;
    if (dev.tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)
        out->offloads |= TX_IPV4;
    if (dev.tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_TSO)
        out->offloads |= TX_TSO4;
    return 0;
}

/* Those of net_virtio_user, unless told otherwise. */
#define VIRTIO_DESCRIPTORS 256

/* The hash and what takes it to a queue, as in transport/src/tcp/rss.rs. */
#define RSS_KEY "\x6d\x5a"
#define RSS_ENTRIES 128

static void rss(struct rte_eth_rss_conf *rss, const struct rte_eth_dev_info *dev)
{
    static uint8_t key[256];

    for (size_t i = 0; i < sizeof key; i++)
        key[i] = RSS_KEY[i % 2];
    rss->rss_hf = dev->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP);
    rss->rss_key = key;
    rss->rss_key_len = dev->hash_key_size ? dev->hash_key_size : 40;
}

/* A port that refuses this puts frames into queues where others take them from. */
static void spread(uint16_t port, uint16_t queues)
{
    struct rte_eth_rss_reta_entry64 reta[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE] = {0};
    struct rte_eth_dev_info dev;

    if (rte_eth_dev_info_get(port, &dev) || dev.reta_size > RTE_ETH_RSS_RETA_SIZE_512)
        return;
    for (uint16_t i = 0; i < dev.reta_size; i++) {
        uint16_t at = i % RTE_ETH_RETA_GROUP_SIZE;

        reta[i / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1) << at;
        reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[at] = i % RSS_ENTRIES % queues;
    }
    if (dev.reta_size)
        rte_eth_dev_rss_reta_update(port, reta, dev.reta_size);
}

/*
 * net_virtio and net_virtio_user keep what is sent until the queue is almost full. Until it can be
 * used again, it has left the cache, and long frames may run out.
 */
static int set_up_tx(uint16_t port, uint16_t queue, uint16_t descriptors, int socket,
                     const struct rte_eth_dev_info *dev)
{
    struct rte_eth_txconf conf = dev->default_txconf;

    conf.tx_free_thresh = RTE_MIN(descriptors, VIRTIO_DESCRIPTORS) - 8;
    if (!strncmp(dev->driver_name, "net_virtio", strlen("net_virtio")) &&
        !rte_eth_tx_queue_setup(port, queue, descriptors, socket, &conf))
        return 0;
    return rte_eth_tx_queue_setup(port, queue, descriptors, socket, NULL);
}

static int configure(uint16_t port, const struct setup *setup, int interrupts)
{
    struct rte_eth_dev_info dev;
    struct rte_eth_conf conf = {0};
    uint16_t rx = setup->rx_descriptors, tx = setup->tx_descriptors;
    int error = rte_eth_dev_info_get(port, &dev), socket = rte_eth_dev_socket_id(port);

    if (error)
        return error;
    conf.rxmode.mtu = setup->mtu;
    conf.intr_conf.rxq = interrupts;
    if (setup->offloads & RX_CHECKSUM)
        conf.rxmode.offloads |= dev.rx_offload_capa &
            (RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
    if (setup->offloads & TX_CHECKSUM)
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    if (setup->offloads & TX_IPV4)
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
    if (setup->offloads & TX_TSO4)
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
    if (setup->queues > 1 && dev.flow_type_rss_offloads) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        rss(&conf.rx_adv_conf.rss_conf, &dev);
    }
    error = rte_eth_dev_configure(port, setup->queues, setup->queues, &conf);
    if (!error)
        error = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx, &tx);
    for (uint16_t i = 0; i < setup->queues && !error; i++) {
        error = rte_eth_rx_queue_setup(port, i, rx, socket, NULL, setup->pool);
        if (!error)
            error = set_up_tx(port, i, tx, socket, &dev);
    }
    return error;
}

/*
 * Interrupts are tried last: net_virtio_user, once configured with them and not started, leaves a
 * handler behind when it is closed.
 */
static int open_port(uint16_t port, const struct setup *setup)
{
    int error = configure(port, setup, 0);

    if (!error && setup->interrupts && configure(port, setup, 1))
        error = configure(port, setup, 0);
    if (!error)
        error = rte_eth_dev_start(port);
    if (!error && setup->queues > 1)
        spread(port, setup->queues);
    if (!error)
        rte_eth_allmulticast_enable(port); /* for neighbour discovery, where it is filtered */
    return error;
}

static void stop_port(void *port) { rte_eth_dev_stop(*(uint16_t *)port); }

static void do_nothing(void *nothing) { (void)nothing; }

struct call {
    void (*function)(void *);
    void *argument;
    int done;
};

static void call(void *call)
{
    struct call *it = call;

    it->function(it->argument);
    __atomic_store_n(&it->done, 1, __ATOMIC_RELEASE);
}

/* Calls it on DPDK's own thread, after everything that drivers have put off until now. */
static void call_there(void (*function)(void *), void *argument)
{
    struct call it = {function, argument, 0};

    while (rte_eal_alarm_set(1, call, &it))
        rte_delay_us_sleep(1000); /* for want of memory */
    while (!__atomic_load_n(&it.done, __ATOMIC_ACQUIRE))
        rte_delay_us_sleep(10);
}

/*
 * net_virtio_user, configured with interrupts, closes the descriptors of its receive queues twice,
 * and between that waits for its peer. Whatever another thread opens meanwhile may get such a number
 * and be closed: a connection of net_vhost, or anything of this process. Configured without, it
 * closes them once. That is for a stopped port, which has taken its handler back.
 */
static void forgo_interrupts(uint16_t port, const struct rte_eth_dev_info *dev)
{
    struct rte_eth_conf conf;

    if (strcmp(dev->driver_name, "net_virtio_user") || rte_eth_dev_conf_get(port, &conf) ||
        !conf.intr_conf.rxq)
        return;
    conf.intr_conf.rxq = 0;
    rte_eth_dev_configure(port, dev->nb_rx_queues, dev->nb_tx_queues, &conf);
}

/*
 * net_virtio_user handles interrupts on DPDK's own thread. It can take its handler back only while
 * that does not run, does not notice if it could not, and DPDK ends the process when the handler's
 * descriptor is closed. So it stops there, where no handler can be running. What it has put off
 * to do about a peer that is gone, it does not call off, so that is waited for.
 */
static void close_port(uint16_t port)
{
    struct rte_eth_dev_info dev;

    if (rte_eth_dev_info_get(port, &dev))
        return;
    call_there(stop_port, &port);
    call_there(do_nothing, NULL);
    forgo_interrupts(port, &dev);
    rte_eth_dev_close(port);
    rte_dev_remove(dev.device);
}

static int link_up(uint16_t port)
{
    struct rte_eth_link link = {0};
    int error = rte_eth_link_get_nowait(port, &link);

    return error ? error : link.link_status == RTE_ETH_LINK_UP;
}

static int stats(uint16_t port, struct stats *out)
{
    struct rte_eth_stats all;
    int error = rte_eth_stats_get(port, &all);

    if (!error)
        *out = (struct stats){all.imissed, all.ierrors, all.oerrors, all.rx_nombuf};
    return error;
}

static int interrupt_fd(uint16_t port, uint16_t queue)
{
    return rte_eth_dev_rx_intr_ctl_q_get_fd(port, queue);
}

static int interrupt(uint16_t port, uint16_t queue, uint32_t enable)
{
    return enable ? rte_eth_dev_rx_intr_enable(port, queue)
                  : rte_eth_dev_rx_intr_disable(port, queue);
}

/* ---- memory ---- */

/*
 * Frames that devices reach by physical addresses do not cross pages. If `dense` they do: there is
 * nothing between them, and all are in one piece of memory.
 */
static struct rte_mempool *pool(const char *name, uint32_t count, uint32_t cache, uint16_t room,
                                uint32_t dense)
{
    struct rte_pktmbuf_pool_private private = {RTE_PKTMBUF_HEADROOM + room, 0, 0};
    struct rte_mempool *pool;

    if (!dense) {
        /* Last in, first out: few frames are in use at a time, and those are in the caches. */
        pool = rte_pktmbuf_pool_create_by_ops(name, count, cache, 0, private.mbuf_data_room_size,
                                              SOCKET_ID_ANY, "stack");
        return pool ? pool
                    : rte_pktmbuf_pool_create(name, count, cache, 0, private.mbuf_data_room_size,
                                              SOCKET_ID_ANY);
    }
    pool = rte_mempool_create(name, count, sizeof(struct rte_mbuf) + private.mbuf_data_room_size,
                              cache, sizeof private, rte_pktmbuf_pool_init, &private,
                              rte_pktmbuf_init, NULL, SOCKET_ID_ANY,
                              RTE_MEMPOOL_F_NO_IOVA_CONTIG);
    if (!pool || pool->nb_mem_chunks == 1)
        return pool;
    rte_mempool_free(pool);
    rte_errno = ENOMEM;
    return NULL;
}

static void release(struct rte_mbuf *mbuf) { rte_pktmbuf_free(mbuf); }

static uint16_t allocate(struct rte_mempool *pool, struct frame *frames, uint16_t count)
{
    struct rte_mbuf *mbufs[TX_BURST];
    uint16_t n = RTE_MIN(count, TX_BURST);

    if (rte_pktmbuf_alloc_bulk(pool, mbufs, n)) {
        /* All or nothing, it says. */
        for (n = 0; n < RTE_MIN(count, TX_BURST); n++)
            if (!(mbufs[n] = rte_pktmbuf_alloc(pool)))
                break;
    }
    for (uint16_t i = 0; i < n; i++)
        frames[i] = (struct frame){
            .mbuf = mbufs[i],
            .data = rte_pktmbuf_mtod(mbufs[i], uint8_t *),
            .len = rte_pktmbuf_tailroom(mbufs[i]),
        };
    return n;
}

/* ---- bursts ---- */

static uint8_t checksums(const struct rte_mbuf *mbuf, const struct frame *frame)
{
    uint64_t ip = mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    uint64_t tcp = mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    const uint8_t *data = frame->data;

    if (ip == RTE_MBUF_F_RX_IP_CKSUM_BAD || tcp == RTE_MBUF_F_RX_L4_CKSUM_BAD)
        return BAD;
    if (tcp == RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN)
        return UNKNOWN;
    if (ip != RTE_MBUF_F_RX_IP_CKSUM_UNKNOWN)
        return GOOD;
    /* Virtual ports look at TCP only. */
    if (frame->len >= ETHER_LEN + 40 && data[12] == 0x86 && data[13] == 0xdd)
        return GOOD;
    if (frame->len >= ETHER_LEN + 20 && data[12] == 0x08 && data[13] == 0x00) {
        uint32_t len = (data[ETHER_LEN] & 15) * 4;
        if (len >= 20 && frame->len >= ETHER_LEN + len)
            return rte_raw_cksum(data + ETHER_LEN, len) == 0xffff ? GOOD : BAD;
    }
    return UNKNOWN;
}

static uint16_t receive(uint16_t port, uint16_t queue, struct frame *frames, uint16_t count,
                        uint64_t *refused)
{
    struct rte_mbuf *mbufs[TX_BURST];
    uint16_t n = rte_eth_rx_burst(port, queue, mbufs, RTE_MIN(count, TX_BURST)), kept = 0;

    /* Where the frames of our own pools are: not only when the mbufs are there to say it. */
    for (uint16_t i = 0; i < n; i++) {
        rte_prefetch0(mbufs[i]);
        for (uint16_t at = 0; at < FRAME_START; at += RTE_CACHE_LINE_SIZE)
            rte_prefetch0(RTE_PTR_ADD(mbufs[i] + 1, RTE_PKTMBUF_HEADROOM + at));
    }
    for (uint16_t i = 0; i < n; i++) {
        struct rte_mbuf *mbuf = mbufs[i];
        struct frame *frame = &frames[kept];

        if (rte_pktmbuf_linearize(mbuf)) {
            ++*refused;
            rte_pktmbuf_free(mbuf);
            continue;
        }
        *frame = (struct frame){
            .mbuf = mbuf,
            .data = rte_pktmbuf_mtod(mbuf, uint8_t *),
            .len = mbuf->data_len,
        };
        frame->checksums = checksums(mbuf, frame);
        kept++;
    }
    return kept;
}

/* Fills in what the mbuf says about its frame; true if the hardware has more to do than to send. */
static int prepare(const struct frame *frame, uint32_t offloads)
{
    struct rte_mbuf *mbuf = frame->mbuf;

    mbuf->data_len = frame->len;
    mbuf->pkt_len = frame->len;
    mbuf->ol_flags = 0;
    if (frame->offload == OFFLOAD_NONE || frame->ip_len < sizeof(struct rte_ipv4_hdr) ||
        (uint32_t)ETHER_LEN + frame->ip_len + frame->tcp_len > frame->len)
        return 0;
    mbuf->l2_len = ETHER_LEN;
    mbuf->l3_len = frame->ip_len;
    mbuf->l4_len = frame->tcp_len;
    mbuf->ol_flags = RTE_MBUF_F_TX_TCP_CKSUM;
    if (frame->segment) {
        mbuf->tso_segsz = frame->segment;
        mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
    }
    if (frame->offload == OFFLOAD_IPV6) {
        mbuf->ol_flags |= RTE_MBUF_F_TX_IPV6;
    } else {
        struct rte_ipv4_hdr *ip = (void *)(frame->data + ETHER_LEN);

        mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4;
        ip->hdr_checksum = 0;
        if (offloads & TX_IPV4)
            mbuf->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
        else
            ip->hdr_checksum = ~rte_raw_cksum(ip, frame->ip_len);
    }
    return 1;
}

/* Returns how many were taken, among them those that the driver can never send. */
static uint16_t transmit(uint16_t port, uint16_t queue, const struct frame *frames, uint16_t count,
                         uint32_t offloads, uint64_t *refused)
{
    struct rte_mbuf *mbufs[TX_BURST];
    uint16_t n = RTE_MIN(count, TX_BURST), done = 0;
    int offload = 0;

    for (uint16_t i = 0; i < n; i++) {
        mbufs[i] = frames[i].mbuf;
        offload |= prepare(&frames[i], offloads);
    }
    while (done < n) {
        uint16_t good = n - done, sent;

        if (offload)
            good = rte_eth_tx_prepare(port, queue, mbufs + done, good);
        sent = rte_eth_tx_burst(port, queue, mbufs + done, good);
        done += sent;
        if (sent < good || done == n)
            break;
        rte_pktmbuf_free(mbufs[done++]);
        ++*refused;
    }
    return done;
}

/* ---- what is exported ---- */

struct calls {
    size_t size;
    __typeof__(version) *version;
    __typeof__(start) *start;
    __typeof__(register_thread) *register_thread;
    __typeof__(unregister_thread) *unregister_thread;
    __typeof__(attach) *attach;
    __typeof__(ring_pair) *ring_pair;
    __typeof__(free_rings) *free_rings;
    __typeof__(info) *info;
    __typeof__(open_port) *open_port;
    __typeof__(close_port) *close_port;
    __typeof__(link_up) *link_up;
    __typeof__(stats) *stats;
    __typeof__(interrupt_fd) *interrupt_fd;
    __typeof__(interrupt) *interrupt;
    __typeof__(pool) *pool;
    __typeof__(allocate) *allocate;
    __typeof__(release) *release;
    __typeof__(receive) *receive;
    __typeof__(transmit) *transmit;
};

__attribute__((visibility("default"))) const struct calls msgr_dpdk_calls = {
    sizeof(struct calls), version, start, register_thread, unregister_thread, attach, ring_pair,
    free_rings, info, open_port, close_port, link_up, stats, interrupt_fd, interrupt, pool,
    allocate, release, receive, transmit,
};
