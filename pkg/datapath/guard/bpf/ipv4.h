/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

struct ipv4 {
	__u8 version_ihl, tos;
	__be16 length, id, fragment;
	__u8 ttl, protocol;
	__be16 checksum;
	__be32 src, dst;
};

#define UDP_CHECKSUM 6
#define TCP_CHECKSUM 16
#define L4_OFFSET (ETH_HLEN + sizeof(struct ipv4))
#define MORE_FRAGMENTS 0x2000
#define FRAGMENT_OFFSET 0x1fff
#define ROUTER_ALERT bpf_htonl(0x94040000)
#define BOOTP 236 /* bytes before the options */

struct bootp {
	__u8 op, htype, hlen, hops;
	__be32 xid;
	__be16 secs, flags;
	__be32 ciaddr, yiaddr, siaddr, giaddr;
	__u8 chaddr[ETH_ALEN];
} __attribute__((packed));

/* A request of the guest to a DHCP server, for itself. */
static __always_inline enum reason dhcp4(struct frame *f, __be16 sport, __u32 len, int fragment)
{
	struct bootp b;

	if (fragment || len < 8 + BOOTP || bpf_skb_load_bytes(f->skb, L4_OFFSET + 8, &b, sizeof(b)))
		FAIL(DHCP4_CLIENT);
	STOP(DHCP4_CLIENT, sport != bpf_htons(68) || b.op != 1 || b.giaddr);
	STOP(DHCP4_HARDWARE, b.htype != 1 || b.hlen != ETH_ALEN || mac(b.chaddr) != f->src);
	STOP(DHCP4_CIADDR, b.ciaddr && !own4(f, b.ciaddr));
	STOP(DHCP4_CLIENT, f->skb->gso_size); /* it is several requests */
	return PASSED;
}

/* IGMP is the one protocol that may come with an option: router alert. */
static __always_inline enum reason igmp(struct frame *f, const struct ipv4 *ip, __u32 total)
{
	const __be32 *option = (const void *)(ip + 1);
	const __u8 *type = (const void *)option;
	__u32 header = sizeof(*ip);

	if (ip->version_ihl == 0x46) {
		if ((void *)(option + 1) > f->end)
			FAIL(IP4_OPTIONS);
		STOP(IP4_OPTIONS, *option != ROUTER_ALERT);
		type += 4;
		header += 4;
	}
	if (total < header + 8 || (void *)(type + 8) > f->end)
		FAIL(TRUNCATED_TRANSPORT);
	STOP(IP4_FRAGMENT, ip->fragment & bpf_htons(MORE_FRAGMENTS | FRAGMENT_OFFSET));
	STOP(IGMP_TYPE, *type != 0x12 && *type != 0x16 && *type != 0x17 && *type != 0x22);
	/* Who hears one that the bridge does not holds back his own, and it forgets him. */
	STOP(MULTICAST_REPORT, !SNOOPED(f->dst));
	KEEP(f->skb, REPORTED, *type == 0x22 ? reported(bpf_ntohs(*(const __be16 *)(type + 6)), total - header, 8, 2) : 1);
	return PASSED;
}

/*
 * GRE's own checksum, where it has one, and nothing else: the host's rules go by the ports
 * and headers of what is judged here no further, and must not find others on the wire.
 */
static __always_inline void gre(struct frame *f, __u64 off, __u8 flags)
{
	if (!(flags & 0x80))
		return;
	KEEP(f->skb, CHECKSUM_AT, off + 4);
	KEEP(f->skb, PAYLOAD_AT, off + 6);
}

/* destination unreachable, source quench, time exceeded, parameter problem */
#define QUOTING4 (1 << 3 | 1 << 4 | 1 << 11 | 1 << 12)

/* Errors are about a packet that came to the guest: a host believes them. */
static __always_inline enum reason quote4(struct frame *f, const __be16 *l4, __u32 len)
{
	const struct ipv4 *about = (const void *)(l4 + 4);

	if (len < 8 + sizeof(*about) || (void *)(about + 1) > f->end)
		FAIL(ICMP_QUOTE);
	STOP(ICMP_QUOTE, !own4(f, about->dst));
	return PASSED;
}

static __always_inline enum reason transport4(struct frame *f, const struct ipv4 *ip, __u32 len, enum service *s)
{
	const __be16 *l4 = (const void *)(ip + 1);
	int fragment = !!(ip->fragment & bpf_htons(MORE_FRAGMENTS));
	__u32 need = ip->protocol == IPPROTO_TCP ? 20 : 8;

	if (plain(ip->protocol)) {
		if (ip->protocol == IPPROTO_GRE && (void *)l4 + 8 <= f->end)
			gre(f, L4_OFFSET, *(const __u8 *)l4);
		return PASSED;
	}
	if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_ICMP)
		FAIL(IP4_PROTOCOL);
	/* Also in a first fragment: what is judged must be in it. */
	if (len < need || (void *)l4 + 8 > f->end)
		FAIL(TRUNCATED_TRANSPORT);
	switch (ip->protocol) {
	case IPPROTO_UDP:
		KEEP(f->skb, CHECKSUM_AT, L4_OFFSET + UDP_CHECKSUM);
		STOP(DHCP4_SERVER, l4[0] == bpf_htons(67) || l4[1] == bpf_htons(68));
		if (l4[1] == bpf_htons(67)) {
			*s = SERVICE_BASIC;
			KEEP(f->skb, PAYLOAD_AT, L4_OFFSET + 8);
			return dhcp4(f, l4[0], len, fragment);
		}
		if (l4[1] == bpf_htons(53))
			*s = SERVICE_BASIC;
		return PASSED;
	case IPPROTO_TCP:
		KEEP(f->skb, CHECKSUM_AT, L4_OFFSET + TCP_CHECKSUM);
		if (l4[1] == bpf_htons(53))
			*s = SERVICE_BASIC;
		return PASSED;
	default:
		*s = SERVICE_BASIC;
		/* redirect, router advertisement */
		STOP(ICMP4_TYPE, *(const __u8 *)l4 == 5 || *(const __u8 *)l4 == 9);
		if (*(const __u8 *)l4 > 12 || !bit(QUOTING4, *(const __u8 *)l4))
			return PASSED;
		return quote4(f, l4, len);
	}
}

/* The one use of 0.0.0.0: a guest that asks everybody for an address. */
static __always_inline int dhcp_discover(struct frame *f, const struct ipv4 *ip)
{
	const __be16 *l4 = (const void *)(ip + 1);

	return ip->version_ihl == 0x45 && ip->protocol == IPPROTO_UDP && ip->dst == 0xffffffff &&
	       !(ip->fragment & bpf_htons(MORE_FRAGMENTS | FRAGMENT_OFFSET)) && (void *)(l4 + 2) <= f->end &&
	       l4[1] == bpf_htons(67);
}

static __always_inline enum reason ipv4(struct frame *f)
{
	const struct ipv4 *ip = f->data + ETH_HLEN;
	enum service s = SERVICE_NONE;
	enum reason why;
	__u32 total, header;

	if ((void *)(ip + 1) > f->end)
		FAIL(TRUNCATED_IP4);
	header = (ip->version_ihl & 15) * 4;
	STOP(IP4_HEADER, ip->version_ihl >> 4 != 4 || header < sizeof(*ip));
	STOP(IP4_OPTIONS, header > sizeof(*ip) && (ip->version_ihl != 0x46 || ip->protocol != IPPROTO_IGMP));
	total = bpf_ntohs(ip->length);
	STOP(IP4_LENGTH, total < header || total > f->skb->len - ETH_HLEN);
	if (ip->src)
		STOP(IP4_SOURCE, !own4(f, ip->src));
	else
		STOP(IP4_UNSPECIFIED, !dhcp_discover(f, ip));
	/* never meant, and heard where net.ipv4.conf.*.route_localnet is on */
	STOP(HOST, (ip->dst & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000));
	STOP(METADATA_SERVICE, rules.flags & METADATA && ip->dst == bpf_htonl(0xa9fea9fe));
	STOP(ISOLATED, rules.flags & ISOLATE &&
			       in_nets4(f->port->subnets4, f->port->subnets4_len, MAX_SUBNETS, ip->dst) &&
			       !gateway4(f, ip->dst));
	if (ip->protocol == IPPROTO_IGMP)
		return igmp(f, ip, total);
	KEEP(f->skb, SEGMENT, IF(!!(ip->fragment & bpf_htons(MORE_FRAGMENTS | FRAGMENT_OFFSET)), IP4_FRAGMENT));
	if (ip->fragment & bpf_htons(FRAGMENT_OFFSET)) {
		if (ip->protocol == IPPROTO_ICMP)
			s = SERVICE_BASIC;
		else if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP && !plain(ip->protocol))
			FAIL(IP4_PROTOCOL);
	} else {
		why = transport4(f, ip, total - header, &s);
		if (why != PASSED)
			return why;
	}
	return to_host4(f, opaque(s), ip->src, ip->dst);
}
