/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a guest may say to the host, and to the protocols that both families have. */

/* What a packet is to a host that is not open to its guests. */
enum service {
	SERVICE_NONE,
	SERVICE_BASIC,	   /* ICMP, DHCP, DNS */
	SERVICE_NEIGHBOUR, /* what finding each other, and multicast, need */
};

/* Protocols in which nothing has to be looked at. */
static __always_inline int plain(__u8 protocol)
{
	return rules.plain[protocol >> 6] >> (protocol & 63) & 1;
}

/* gateway: the destination is one, or everybody. */
static __always_inline enum reason to_host(struct frame *f, enum service s, __u64 gateway, struct bpf_fib_lookup *fib)
{
	long got;

	/* What comes in with another station's address the host's IP leaves alone. */
	if (!GROUP(f->dst) && !opaque(in_macs(f->port->host_macs, f->port->host_macs_len, MAX_HOST_MACS, f->dst)))
		return PASSED;
	if (gateway) {
		STOP(HOST, s != SERVICE_BASIC || rules.host_access != HOST_GATEWAY);
		return PASSED;
	}
	STOP(HOST, GROUP(f->dst)); /* it is forwarded nowhere, but any address of the host would take it */
	fib->ifindex = f->port->bridge;
	got = bpf_fib_lookup(f->skb, fib, sizeof(*fib), 0);
	STOP(HOST, got != BPF_FIB_LKUP_RET_SUCCESS && got != BPF_FIB_LKUP_RET_NO_NEIGH && got != BPF_FIB_LKUP_RET_FRAG_NEEDED);
	return PASSED; /* the host forwards it, or would */
}

static __always_inline enum reason to_host4(struct frame *f, enum service s, __be32 src, __be32 dst)
{
	struct bpf_fib_lookup fib;

	if (rules.host_access == HOST_ALL || s == SERVICE_NEIGHBOUR)
		return PASSED;
	__builtin_memset(&fib, 0, sizeof(fib));
	fib.family = 2;
	fib.ipv4_src = src;
	fib.ipv4_dst = dst;
	return to_host(f, s, opaque(gateway4(f, dst) | ZERO(dst ^ 0xffffffff) | ZERO((dst & bpf_htonl(0xf0000000)) ^ bpf_htonl(0xe0000000))), &fib);
}

static __always_inline enum reason to_host6(struct frame *f, enum service s, const __u64 *src, const __u64 *dst)
{
	struct bpf_fib_lookup fib;

	if (rules.host_access == HOST_ALL || s == SERVICE_NEIGHBOUR)
		return PASSED;
	__builtin_memset(&fib, 0, sizeof(fib));
	fib.family = 10;
	__builtin_memcpy(fib.ipv6_src, src, 16);
	__builtin_memcpy(fib.ipv6_dst, dst, 16);
	/* A link-local address on the bridge is the gateway's. */
	return to_host(f, s, opaque(gateway6(f, dst) | ZERO((bpf_be64_to_cpu(dst[0]) >> 56) ^ 0xff) | ZERO((bpf_be64_to_cpu(dst[0]) >> 54) ^ 0x3fa)), &fib);
}
