/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a guest may say to the host, and to the protocols that both families have. */

/* What a packet is to a host that is not open to its guests. */
enum service {
	SERVICE_NONE,
	SERVICE_BASIC,	   /* ICMP, DHCP, DNS */
	SERVICE_NEIGHBOUR, /* what finding each other, and multicast, need */
};

/* Protocols in which nothing has to be looked at. What is not here, like PIM,
 * OSPF and unknown ones, would speak to routers. */
static __always_inline int plain(__u8 protocol)
{
	switch (protocol) {
	case 4:	  /* IPv4 in IP */
	case 33:  /* DCCP */
	case 41:  /* IPv6 in IP */
	case 47:  /* GRE */
	case 50:  /* ESP */
	case 108: /* IPComp */
	case 115: /* L2TP */
	case 132: /* SCTP */
	case 136: /* UDP-Lite */
	case 137: /* MPLS in IP */
		return 1;
	case 112:
		return !!(rules.flags & VRRP);
	}
	return 0;
}

static __always_inline enum reason to_host(struct frame *f, enum service s, int gateway, struct bpf_fib_lookup *fib)
{
	long got;

	if (GROUP(f->dst) || gateway) {
		STOP(HOST, s != SERVICE_BASIC || rules.host_access != HOST_GATEWAY);
		return PASSED;
	}
	fib->ifindex = rules.bridge;
	got = bpf_fib_lookup(f->skb, fib, sizeof(*fib), 0);
	if (got == BPF_FIB_LKUP_RET_SUCCESS || got == BPF_FIB_LKUP_RET_NO_NEIGH || got == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return PASSED; /* the host forwards it, or would */
	/* A host that forwards nothing, or not there, may still be bridging. */
	STOP(HOST, got <= 0 || got == BPF_FIB_LKUP_RET_NOT_FWDED ||
			   in_macs(rules.host_macs, rules.host_macs_len, MAX_HOST_MACS, f->dst));
	return PASSED;
}

static __always_inline enum reason to_host4(struct frame *f, enum service s, __be32 src, __be32 dst)
{
	struct bpf_fib_lookup fib = { .family = 2, .ipv4_src = src, .ipv4_dst = dst };

	if (rules.host_access == HOST_ALL || s == SERVICE_NEIGHBOUR)
		return PASSED;
	return to_host(f, s, gateway4(dst), &fib);
}

static __always_inline enum reason to_host6(struct frame *f, enum service s, const __u64 *src, const __u64 *dst)
{
	struct bpf_fib_lookup fib = { .family = 10 };

	if (rules.host_access == HOST_ALL || s == SERVICE_NEIGHBOUR)
		return PASSED;
	__builtin_memcpy(fib.ipv6_src, src, 16);
	__builtin_memcpy(fib.ipv6_dst, dst, 16);
	return to_host(f, s, gateway6(dst), &fib);
}
