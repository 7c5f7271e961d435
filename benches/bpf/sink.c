// Counts datagrams to one port where they enter a pod, and drops them: a receiver that takes hardly
// any time of the core on which the kernel delivers.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#define SEC(name) __attribute__((section(name), used))
#define SWAP16(n) __builtin_bswap16(n)
#define PORT 5301 // FLOOD_PORT in src/policies.rs

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

struct bpf_map_def {
    unsigned int type, key_size, value_size, max_entries, map_flags;
};

struct bpf_map_def SEC("maps") COUNT = {
    BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(__u32), sizeof(__u64), 1, 0,
};

SEC("classifier")
int sink(struct __sk_buff *skb)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct ethhdr *ethernet = data;
    struct iphdr *ip = data + sizeof(*ethernet);
    struct udphdr *udp = (void *)(ip + 1);

    if ((void *)(udp + 1) > end || ethernet->h_proto != SWAP16(ETH_P_IP))
        return TC_ACT_OK;
    if (ip->ihl != 5 || ip->protocol != IPPROTO_UDP || udp->dest != SWAP16(PORT))
        return TC_ACT_OK;
    __u32 first = 0;
    __u64 *count = map_lookup(&COUNT, &first);
    if (count)
        *count += 1;
    return TC_ACT_SHOT;
}

char program_license[] SEC("license") = "GPL";
