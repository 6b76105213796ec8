/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

struct ipv6 {
	__be32 version;
	__be16 length;
	__u8 next, hop_limit;
	__u64 src[2], dst[2];
} __attribute__((packed, aligned(2)));

#define MAX_EXTENSIONS 4
#define MAX_ND_OPTIONS 2
#define ND_SOURCE_MAC 1
#define ND_TARGET_MAC 2
#define ND_NONCE 14

#define BIT(n) (1ULL << (n))
#define EXTENSIONS                                                             \
	(BIT(IPPROTO_HOPOPTS) | BIT(IPPROTO_ROUTING) | BIT(IPPROTO_FRAGMENT) | \
	 BIT(IPPROTO_AH) | BIT(IPPROTO_DSTOPTS))

/* Where in the header chain the judgement is. */
struct chain {
	__u64 off, end;
	__u64 next, fragment, later, someone;
	__u64 first; /* the first header's protocol, and the hop limit in the byte above */
};

/* The headers before the transport's, each there in full. */
static __always_inline enum reason extensions(struct frame *f, struct chain *c)
{
	__u64 fragment, why, began = 0;
	__u8 h[8];

	/* Few branches: the verifier takes all ways through, four times. */
	NO_UNROLL for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (c->next > 63 || !bit(EXTENSIONS, c->next))
			return PASSED;
		if (bpf_skb_load_bytes(f->skb, c->off, h, sizeof(h)))
			FAIL(IP6_EXTENSION);
		fragment = bit(BIT(IPPROTO_FRAGMENT), c->next);
		/* A header is of one kind, so at most one of these is true. */
		why = IF(bit(began, c->next), IP6_EXTENSION) | /* hop-by-hop comes first */
		      IF(fragment & c->fragment, IP6_FRAGMENT) |
		      /* Where it goes next must not be hidden from who judges. */
		      IF(bit(BIT(IPPROTO_ROUTING), c->next) & (ZERO(h[2]) | !ZERO(h[3])), IP6_ROUTING);
		if (why)
			return why;
		c->fragment = opaque(c->fragment | fragment);
		c->later = opaque((h[2] | (h[3] & 0xf8)) & -fragment);
		/* in units of 8 bytes; AH in those of 4; a fragment's has no length */
		c->off = opaque(c->off + 8 + (h[1] * 8ULL >> bit(BIT(IPPROTO_AH), c->next) & (fragment - 1)));
		c->next = opaque(h[0]);
		began = opaque(BIT(IPPROTO_HOPOPTS));
		if (c->off > c->end)
			FAIL(IP6_EXTENSION);
		if (c->later)
			return PASSED;
	}
	FAIL(IP6_EXTENSION);
}

static __always_inline __u64 halves(const __u16 *m)
{
	return m[0] | (__u64)m[1] << 16 | (__u64)m[2] << 32;
}

/* Link-layer addresses in neighbour discovery are the sender's own. */
static __always_inline enum reason nd_options(struct frame *f, struct chain *c, __u64 off, __u8 kind, __u8 other)
{
	struct {
		__u8 type, len;
		__u16 mac[3];
	} o;

	NO_UNROLL for (int i = 0; i < MAX_ND_OPTIONS && off != c->end; i++) {
		if (off + sizeof(o) > c->end || bpf_skb_load_bytes(f->skb, off, &o, sizeof(o)))
			FAIL(ND_OPTION);
		STOP(ND_OPTION, o.type != kind && o.type != other);
		STOP(ND_OPTION, o.type == kind && (o.len != 1 || halves(o.mac) != f->src));
		STOP(ND_OPTION, !o.len);
		off = opaque(off + o.len * 8);
	}
	STOP(ND_OPTION, off != c->end);
	return PASSED;
}

/* Router solicitation (133), neighbour solicitation (135) and advertisement (136). */
static __always_inline enum reason neighbour(struct frame *f, struct chain *c, __u64 type)
{
	__u64 advertisement = bit(type, 3), target[2];
	__u64 off = c->off + 8, kind = ND_SOURCE_MAC, other = ND_SOURCE_MAC;

	STOP(ND_FRAGMENT, c->fragment);
	STOP(ND_HOP_LIMIT, c->first >> 8 != 255);
	if (type != 133) {
		off += 16;
		if (off > c->end || bpf_skb_load_bytes(f->skb, c->off + 8, target, sizeof(target)))
			FAIL(TRUNCATED_TRANSPORT);
		/* Whoever looks for an address without one keeps others from taking it. */
		if (advertisement || !c->someone)
			STOP(ND_TARGET, !own6(f, target));
		kind += advertisement;
		other = ND_NONCE - (ND_NONCE - ND_TARGET_MAC) * advertisement;
	}
	return nd_options(f, c, opaque(off), opaque(kind), opaque(other));
}

/*
 * Errors are about a packet that came to the guest, or to a group (RFC 4443, 2.4 e): a host
 * believes them.
 */
static __always_inline enum reason quote6(struct frame *f, struct chain *c)
{
	__u64 dst[2];

	if (c->off + 8 + sizeof(struct ipv6) > c->end ||
	    bpf_skb_load_bytes(f->skb, c->off + 8 + __builtin_offsetof(struct ipv6, dst), dst, sizeof(dst)))
		FAIL(ICMP_QUOTE);
	STOP(ICMP_QUOTE, (dst[0] & 0xff) != 0xff && !own6(f, dst));
	return PASSED;
}

/* h: the header's first 8 bytes */
static __always_inline enum reason icmp6(struct frame *f, struct chain *c, const __be16 *h, enum service *s)
{
	__u8 type = *(const __u8 *)h;

	*s = SERVICE_NEIGHBOUR;
	switch (type) {
	case 136:
		STOP(IP6_UNSPECIFIED, !c->someone);
		/* fall through */
	case 135:
	case 133:
		return neighbour(f, c, opaque(type));
	case 131: /* MLD reports */
	case 132:
	case 143:
		STOP(ND_FRAGMENT, c->fragment);
		/* Who hears one that the bridge does not holds back his own, and it forgets him. */
		STOP(MULTICAST_REPORT, !SNOOPED(f->dst) || (c->first & 0xff) != IPPROTO_HOPOPTS);
		KEEP(f->skb, REPORTED, type == 143 ? reported(bpf_ntohs(h[3]), c->end - c->off, 20, 4) : 1);
		return PASSED;
	}
	STOP(IP6_UNSPECIFIED, !c->someone);
	*s = SERVICE_BASIC;
	/* errors and echo */
	if (type - 1U > 3 && type - 128U > 1)
		FAIL(ICMP6_TYPE);
	return type < 128 ? quote6(f, c) : PASSED;
}

static __always_inline enum reason udp6(struct frame *f, struct chain *c, const __be16 *port, enum service *s)
{
	__u8 type;

	STOP(DHCP6_SERVER, port[0] == bpf_htons(547) || port[1] == bpf_htons(546));
	if (port[1] != bpf_htons(547))
		return PASSED;
	*s = SERVICE_BASIC;
	KEEP(f->skb, PAYLOAD_AT, c->off + 8);
	if (c->fragment || c->off + 12 > c->end || bpf_skb_load_bytes(f->skb, c->off + 8, &type, 1))
		FAIL(DHCP6_CLIENT);
	/* what clients send: no replies, and nothing on behalf of others */
	STOP(DHCP6_CLIENT, f->skb->gso_size); /* it is several requests */
	STOP(DHCP6_CLIENT, (type < 1 || type > 11 || type == 2 || type == 7 || type == 10) && type != 36);
	return PASSED;
}

static __always_inline enum reason transport6(struct frame *f, struct chain *c, enum service *s)
{
	__u32 need = c->next == IPPROTO_TCP ? 20 : 8;
	__be16 h[4];

	if (c->next != IPPROTO_ICMPV6)
		STOP(IP6_UNSPECIFIED, !c->someone);
	if (c->next == IPPROTO_NONE || plain(c->next)) {
		__u8 flags;

		if (c->next == IPPROTO_GRE && c->off + 8 <= c->end && !bpf_skb_load_bytes(f->skb, c->off, &flags, sizeof(flags)))
			gre(f, c->off, flags);
		return PASSED;
	}
	if (c->next != IPPROTO_ICMPV6 && c->next != IPPROTO_UDP && c->next != IPPROTO_TCP)
		FAIL(IP6_PROTOCOL);
	if (c->off + need > c->end || bpf_skb_load_bytes(f->skb, c->off, h, sizeof(h)))
		FAIL(TRUNCATED_TRANSPORT);
	if (c->next == IPPROTO_ICMPV6)
		return icmp6(f, c, h, s);
	if (h[1] == bpf_htons(53))
		*s = SERVICE_BASIC;
	KEEP(f->skb, CHECKSUM_AT, c->off + (c->next == IPPROTO_UDP ? UDP_CHECKSUM : TCP_CHECKSUM));
	return c->next == IPPROTO_UDP ? udp6(f, c, h, s) : PASSED;
}

static __always_inline enum reason later6(struct chain *c, enum service *s)
{
	STOP(IP6_UNSPECIFIED, !c->someone);
	if (c->next == IPPROTO_ICMPV6)
		*s = SERVICE_BASIC;
	else if (c->next != IPPROTO_TCP && c->next != IPPROTO_UDP && c->next != IPPROTO_DSTOPTS && c->next != IPPROTO_AH && !plain(c->next))
		FAIL(IP6_PROTOCOL);
	return PASSED;
}

static __always_inline enum reason ipv6(struct frame *f)
{
	const struct ipv6 *ip = f->data + ETH_HLEN;
	struct chain c = { .off = ETH_HLEN + sizeof(*ip) };
	enum service s = SERVICE_NONE;
	enum reason why;
	__u64 src[2], dst[2];

	if ((void *)(ip + 1) > f->end)
		FAIL(TRUNCATED_IP6);
	STOP(IP6_HEADER, (*(const __u8 *)ip) >> 4 != 6);
	src[0] = ip->src[0], src[1] = ip->src[1];
	dst[0] = ip->dst[0], dst[1] = ip->dst[1];
	c.end = c.off + bpf_ntohs(ip->length);
	c.next = opaque(ip->next);
	c.first = ip->next | ip->hop_limit << 8;
	STOP(IP6_LENGTH, c.end > f->skb->len);
	c.fragment = opaque(0);
	c.later = opaque(0);
	c.off = opaque(c.off);
	c.end = opaque(c.end);
	c.someone = opaque(src[0] | src[1]);
	STOP(IP6_SOURCE, c.someone && !own6(f, src));
	c.someone = opaque(c.someone);
	STOP(METADATA_SERVICE, rules.flags & METADATA && !((dst[0] ^ bpf_cpu_to_be64(0xfd000ec200000000)) |
					 (dst[1] ^ bpf_cpu_to_be64(0x254))));
	STOP(ISOLATED, rules.flags & ISOLATE &&
			       in_nets6(f->port->subnets6, f->port->subnets6_len, MAX_SUBNETS, dst) &&
			       !gateway6(f, dst));
	why = extensions(f, &c);
	if (why != PASSED)
		return why;
	KEEP(f->skb, SEGMENT, IF(c.fragment, IP6_FRAGMENT));
	why = c.later ? later6(&c, &s) : transport6(f, &c, &s);
	if (why != PASSED)
		return why;
	return to_host6(f, opaque(s), src, dst);
}
