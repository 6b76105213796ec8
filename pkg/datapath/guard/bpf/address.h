/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whose is an address? Differences are put together before they are looked at:
 * each branch is one more way for the verifier to go. */

static __always_inline int in_nets4(const struct net4 *nets, __u32 len, __u32 max, __be32 a)
{
	NO_UNROLL for (__u32 i = 0; i < max && i < len; i++)
		if ((a & nets[i].mask) == nets[i].net)
			return 1;
	return 0;
}

static __always_inline int in_nets6(const struct net6 *nets, __u32 len, __u32 max, const __u64 *a)
{
	NO_UNROLL for (__u32 i = 0; i < max && i < len; i++)
		if (!(((a[0] & nets[i].mask[0]) ^ nets[i].net[0]) | ((a[1] & nets[i].mask[1]) ^ nets[i].net[1])))
			return 1;
	return 0;
}

static __always_inline int gateway4(struct frame *f, __be32 a)
{
	NO_UNROLL for (__u32 i = 0; i < MAX_GATEWAYS && i < f->port->gateways4_len; i++)
		if (f->port->gateways4[i] == a)
			return 1;
	return 0;
}

static __always_inline int gateway6(struct frame *f, const __u64 *a)
{
	NO_UNROLL for (__u32 i = 0; i < MAX_GATEWAYS && i < f->port->gateways6_len; i++)
		if (!((f->port->gateways6[i][0] ^ a[0]) | (f->port->gateways6[i][1] ^ a[1])))
			return 1;
	return 0;
}

/* Without layer 3 rules all addresses are the guest's, but a gateway's never is. */
static __always_inline int own4(struct frame *f, __be32 a)
{
	if (rules.flags & GATEWAYS && gateway4(f, a))
		return 0;
	return !(rules.flags & LAYER3) || in_nets4(f->port->own4, rules.own4_room, MAX_ADDRESSES, a);
}

static __always_inline int own6(struct frame *f, const __u64 *a)
{
	if (rules.flags & GATEWAYS && gateway6(f, a))
		return 0;
	return !(rules.flags & LAYER3) || in_nets6(f->port->own6, rules.own6_room, MAX_ADDRESSES, a);
}
