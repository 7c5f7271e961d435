// What Cilium's datapath does for a packet from pod to pod, and no more: look the policy up in a
// hash map, the destination in another, rewrite both MAC addresses, redirect_peer. No connection
// tracking: each direction is an entry of its own.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

#define SEC(name) __attribute__((section(name), used))
#define SWAP16(n) __builtin_bswap16(n)

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*store)(struct __sk_buff *, __u32, const void *, __u32, __u64) =
    (void *)BPF_FUNC_skb_store_bytes;
static long (*redirect_peer)(__u32 index, __u64 flags) = (void *)BPF_FUNC_redirect_peer;

struct bpf_map_def {
    unsigned int type, key_size, value_size, max_entries, map_flags;
};

// Source, destination, the port of the server's end, protocol, which end the port is of.
struct policy_key {
    __u32 source, destination;
    __u16 port;
    __u8 protocol, is_source_port;
};

struct endpoint {
    __u32 index;
    __u8 macs[12]; // destination, source
};

struct bpf_map_def SEC("maps") POLICY = {
    BPF_MAP_TYPE_HASH, sizeof(struct policy_key), sizeof(__u32), 16384, 0,
};
struct bpf_map_def SEC("maps") ENDPOINTS = {
    BPF_MAP_TYPE_HASH, sizeof(__u32), sizeof(struct endpoint), 16384, 0,
};

SEC("classifier")
int redirect(struct __sk_buff *skb)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct ethhdr *ethernet = data;
    struct iphdr *ip = data + sizeof(*ethernet);
    __u16 *ports = (void *)(ip + 1);

    if ((void *)(ports + 2) > end || ethernet->h_proto != SWAP16(ETH_P_IP))
        return TC_ACT_OK; // ARP is the host's
    if (ip->ihl != 5)
        return TC_ACT_SHOT;
    struct policy_key key = {ip->saddr, ip->daddr, ports[1], ip->protocol, 0};
    if (!map_lookup(&POLICY, &key)) {
        key.port = ports[0];
        key.is_source_port = 1;
        if (!map_lookup(&POLICY, &key))
            return TC_ACT_SHOT;
    }
    __u32 address = ip->daddr;
    struct endpoint *to = map_lookup(&ENDPOINTS, &address);
    if (!to || store(skb, 0, to->macs, sizeof(to->macs), 0))
        return TC_ACT_SHOT;
    return redirect_peer(to->index, 0);
}

char program_license[] SEC("license") = "GPL";
