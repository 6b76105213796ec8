/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The guard of a bridge port, at its tc ingress: judges what a guest sends.
 * What is not known to be right is dropped; each way to PASSED is a match on
 * headers that were there in full. See docs/security.md.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "rules.h"

/* Old style: no BTF has to be loaded to make them. */
struct map {
	__u32 type, key_size, value_size, max_entries, map_flags;
};

#define MAP(name, kind, value, entries, flags)                                 \
	struct map SEC("maps") name = {                                        \
		.type = kind, .key_size = 4, .value_size = value,              \
		.max_entries = entries, .map_flags = flags,                    \
	}

/* Constants to the verifier: rules that are not in use cost nothing, not even at
 * load time. */
const volatile struct rules rules;

MAP(guard_ports, BPF_MAP_TYPE_ARRAY, sizeof(struct port), PORTS, 0);
/* by interface index; looked up for what is dropped only */
MAP(guard_drops, BPF_MAP_TYPE_PERCPU_HASH, REASONS * sizeof(__u64), PORTS, BPF_F_NO_PREALLOC);
MAP(guard_last, BPF_MAP_TYPE_HASH, REASONS * sizeof(struct sample), PORTS, BPF_F_NO_PREALLOC);
MAP(guard_spare, BPF_MAP_TYPE_PERCPU_ARRAY, SPARE, 1, 0);

/*
 * STOP is a rule. FAIL is one without which nothing could go on: it ends the
 * judgement. The mutation run leaves out the rule that WITHOUT names, and lets
 * FAIL accept.
 */
#ifndef WITHOUT
#define WITHOUT REASONS
#endif
#define STOP(reason, condition)                                                \
	do {                                                                   \
		if (WITHOUT != (reason) && (condition))                        \
			return reason;                                         \
	} while (0)
#define FAIL(reason) return WITHOUT == (reason) ? PASSED : (reason)

/* A frame on its way through the judgement. */
struct frame {
	struct __sk_buff *skb;
	struct port *port;
	void *data, *end;
	__u64 src, dst; /* MAC addresses */
};

/* A loop that the compiler unrolls is checked and loaded as often. */
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
/*
 * The same value, of which the verifier forgets what it knows (it does not look
 * into swapped bytes): what it need not know keeps it from taking two ways to one
 * place for the same, and then it checks all that follows once more. Only the
 * time to load depends on it.
 */
static __always_inline __u64 opaque(__u64 v)
{
	asm volatile("%0 = be64 %0\n%0 = be64 %0" : "+r"(v));
	return v;
}

/*
 * The same by way of the packet's own memory, for what the verifier must be sure
 * of: it does not go back there to see how each way came to the value.
 */
static __always_inline __u64 forget(struct __sk_buff *skb, __u32 v)
{
	*(volatile __u32 *)&skb->cb[0] = v;
	return *(volatile __u32 *)&skb->cb[0];
}

/*
 * What checksum() has to know is kept there, too: where a checksum may be, at the
 * earliest, which for TCP and UDP is where theirs is, 0 for nowhere, and where a payload
 * begins that is judged, 0 for none.
 */
#define CHECKSUM_AT cb[1]
#define PAYLOAD_AT cb[2]

/* So that the compiler does not go there by a pointer of its own: the verifier knows
 * none into the packet's memory but the packet's. */
#define KEEP(skb, member, value)                                               \
	asm volatile("*(u32 *)(%0 + %1) = %2" ::"r"(skb), "i"(__builtin_offsetof(struct __sk_buff, member)), "r"((__u64)(value)) : "memory")
#define KEPT(skb, member)                                                      \
	({                                                                     \
		__u64 kept;                                                    \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                          \
			     : "=r"(kept)                                      \
			     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, member))); \
		kept;                                                          \
	})

/*
 * And why the frame may not be a segment (GSO), 0 for that it may: whoever cuts up
 * one that is a fragment numbers the pieces anew, so that the first is one that nobody
 * judged.
 */
#define SEGMENT cb[3]

/* How many multicast groups it reports, with and without a source. */
#define REPORTED cb[4]
#define IF(bit, reason) ((bit) * (WITHOUT == (reason) ? 0 : (reason)))

/* 0 or 1, which the compiler does not make a branch of. */
static __always_inline __u64 bit(__u64 bits, __u32 n)
{
	bits = bits >> n & 1;
	asm volatile("" : "+r"(bits));
	return bits;
}

#define ZERO(byte) (((__u64)(byte) - 1) >> 63)
#define GROUP(mac) ((mac) & 1)
/* Does the bridge look for reports in what has this address? */
#define SNOOPED(mac) (GROUP(mac) && (mac) != 0xffffffffffffULL)
#define PULLED 128

/*
 * How many of them are in an IGMPv3 or MLDv2 report of so many bytes, which says how many
 * records it has: what is left beside their heads are sources, each 1 << shift bytes.
 * One that says more records than it has is counted for half of what it holds at worst.
 */
static __always_inline __u64 reported(__u64 records, __u64 len, __u64 head, int shift)
{
	__s64 left = len - 8 - records * head;

	return records + ((left & ~(left >> 63)) >> shift);
}

static __always_inline __u64 mac(const void *p)
{
	return *(const __u32 *)p | (__u64) * (const __u16 *)(p + 4) << 32;
}

static __always_inline int in_macs(const __u64 *list, __u32 len, __u32 max, __u64 m)
{
	NO_UNROLL for (__u32 i = 0; i < max && i < len; i++)
		if (list[i] == m)
			return 1;
	return 0;
}

#include "address.h"
#include "host.h"
#include "arp.h"
#include "ipv4.h"
#include "ipv6.h"

static __always_inline enum reason vlan(struct frame *f)
{
	__u16 id = f->skb->vlan_tci & 0xfff;

	STOP(VLAN_TYPE, f->skb->vlan_proto != bpf_htons(ETH_P_8021Q));
	STOP(VLAN_NOT_ALLOWED, !(rules.vlans[(id >> 6) & 63] >> (id & 63) & 1));
	return PASSED;
}

static __always_inline enum reason judge(struct frame *f)
{
	__u32 want = f->skb->len < PULLED ? f->skb->len : PULLED;

	f->data = (void *)(long)f->skb->data;
	f->end = (void *)(long)f->skb->data_end;
	if (f->data + want > f->end) {
		/* A GSO frame may have most of itself in pages. */
		if (bpf_skb_pull_data(f->skb, want))
			FAIL(TRUNCATED_ETHERNET);
		f->data = (void *)(long)f->skb->data;
		f->end = (void *)(long)f->skb->data_end;
	}
	if (f->data + ETH_HLEN > f->end)
		FAIL(TRUNCATED_ETHERNET);
	f->dst = mac(f->data);
	f->src = mac(f->data + ETH_ALEN);
	STOP(SOURCE_MAC, !in_macs(f->port->macs, rules.macs_len, MAX_MACS, f->src));
	/* 01:80:c2:00:00:xx: never forwarded, but heard by the bridge */
	STOP(LINK_LOCAL_GROUP, (f->dst & 0xffffffffffULL) == 0xc28001ULL);
	/* The kernel takes the outer tag off a frame before it gets here. */
	if (f->skb->vlan_present) {
		enum reason why = vlan(f);

		if (why != PASSED)
			return why;
	}
	switch (*(__be16 *)(f->data + 2 * ETH_ALEN)) {
	case bpf_htons(ETH_P_IP):
		return ipv4(f);
	case bpf_htons(ETH_P_IPV6):
		return ipv6(f);
	case bpf_htons(ETH_P_ARP):
		return arp(f);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		FAIL(VLAN_STACKED);
	}
	FAIL(ETHERTYPE);
}

#include "checksum.h"

/*
 * A frame that is to be cut into segments. The bridge lets it through, whatever its MTU
 * is; so each of them must be no longer than that of the port, or else than those of a
 * guest that nobody told of a smaller one: the host takes what is longer, and says so to
 * whoever answers.
 */
static __always_inline enum reason segment(struct frame *f)
{
	enum reason why = KEPT(f->skb, SEGMENT);
	__u32 mtu = 0;

	if (why != PASSED)
		return why;
	STOP(SEGMENT_SIZE, rules.checks_mtu && f->skb->gso_size > ETH_DATA_LEN - sizeof(struct ipv4) &&
				   bpf_check_mtu(f->skb, 0, &mtu, 0, BPF_MTU_CHK_SEGS) > 0);
	return PASSED;
}

/*
 * Group frames at a steady rate. CPUs that come at the same time may share a
 * place, so that a guest with many queues gets a little more.
 */
static __always_inline enum reason storm(struct frame *f)
{
	__u64 now, interval = rules.storm_interval;

	if (!rules.storm_interval || !GROUP(f->dst))
		return PASSED;
	if (f->skb->gso_size) /* it is as many frames as it will be cut into */
		interval *= 1 + f->skb->len / f->skb->gso_size;
	now = bpf_ktime_get_ns();
	if (f->port->storm < now)
		f->port->storm = now;
	STOP(STORM, f->port->storm - now + interval - rules.storm_interval > rules.storm_burst);
	f->port->storm += interval;
	return PASSED;
}

/* Multicast groups at a steady rate. */
static __always_inline enum reason groups(struct frame *f)
{
	__u64 now, due;

	if (!rules.group_interval)
		return PASSED;
	due = KEPT(f->skb, REPORTED) * rules.group_interval;
	if (!due)
		return PASSED;
	now = bpf_ktime_get_ns();
	if (f->port->groups < now)
		f->port->groups = now;
	STOP(MULTICAST_GROUPS, f->port->groups - now + due > GROUPS_AHEAD);
	f->port->groups += due;
	return PASSED;
}

/* Ten frames a second of each reason are enough for whoever asks why. */
static __always_inline void sample(struct __sk_buff *skb, __u32 port, __u64 why)
{
	struct sample *s = bpf_map_lookup_elem(&guard_last, &port);
	__u64 now = bpf_ktime_get_ns();
	__u64 n;

	if (!s)
		return;
	s += why;
	if (s->time && now - s->time < 100000000)
		return;
	s->time = now;
	s->length = skb->len;
	n = skb->len < SAMPLE ? skb->len : SAMPLE;
	/* from 1 to SAMPLE, said so that 5.10's verifier sees it */
	n = (opaque(n - 1) & (SAMPLE - 1)) + 1;
	s->captured = n;
	bpf_skb_load_bytes(skb, 0, s->frame, n);
}

/*
 * bpf_redirect_peer() calls every frame one to the host, whose IP then takes what
 * the bridge hands up for an address of another port's, or in promiscuous mode for any.
 * For its own the bridge says so itself.
 */
static __always_inline void address(struct frame *f)
{
	__u32 type = PACKET_OTHERHOST;

	if (GROUP(f->dst))
		type = f->dst == 0xffffffffffffULL ? PACKET_BROADCAST : PACKET_MULTICAST;
	if (f->skb->pkt_type != type)
		bpf_skb_change_type(f->skb, type);
}

SEC("tc")
int guard(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, place = ifindex & (PORTS - 1);
	struct frame f = { .skb = skb, .port = bpf_map_lookup_elem(&guard_ports, &place) };
	__u64 *counts;
	__u64 why;

	/* A port that the program was not told of is nobody's. */
	if (!f.port || f.port->ifindex != ifindex)
		return TC_ACT_SHOT;
	KEEP(skb, CHECKSUM_AT, 0);
	KEEP(skb, PAYLOAD_AT, 0);
	KEEP(skb, SEGMENT, 0);
	KEEP(skb, REPORTED, 0);
	why = judge(&f);
	if (why == PASSED && skb->gso_size)
		why = segment(&f);
	if (why == PASSED)
		why = storm(&f);
	if (why == PASSED)
		why = groups(&f);
	if (why == PASSED)
		why = checksum(&f);
	if (why == PASSED) {
		__sync_fetch_and_add(&f.port->passed, 1);
		address(&f);
		return TC_ACT_UNSPEC;
	}
	why = forget(skb, why);
	counts = bpf_map_lookup_elem(&guard_drops, &ifindex);
	if (counts && why < REASONS) {
		counts[why]++;
		sample(skb, ifindex, why);
	}
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
