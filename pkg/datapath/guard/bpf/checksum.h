/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A guest may leave a checksum to the kernel, and says where it belongs: any two
 * bytes of the frame, with a sum that it can choose. The kernel writes them after
 * the frame was judged, so they must not be any that were.
 *
 * No program is told. But a checksum that the kernel has yet to write cannot be
 * declared a good one; and the place is in the kernel's memory.
 */

/* Is there a checksum that the kernel will write? Leaves everything as it is. */
static __always_inline int unfinished(struct frame *f)
{
	long level;

	bpf_csum_level(f->skb, BPF_CSUM_LEVEL_INC);
	level = bpf_csum_level(f->skb, BPF_CSUM_LEVEL_QUERY);
	if (level < 0)
		return 1;
	bpf_csum_level(f->skb, BPF_CSUM_LEVEL_DEC);
	return 0;
}

/* The place, in the frame. To read it costs as much for all of it as for a part. */
static __always_inline long place(struct frame *f)
{
	__u16 at[WINDOW];

	if (bpf_probe_read_kernel(at, sizeof(at), (void *)f->skb + rules.csum_start))
		return -1;
	return (long)at[0] + at[1] - at[rules.mac_header & (WINDOW - 1)];
}

/*
 * Where that memory may not be read (lockdown), or nobody knows where to look: what
 * cuts the end off a frame refuses to cut the place off. Linux 6.1.192 does it all
 * the same; the frame is lost then.
 *
 * Is the place before that offset? Cuts everything after it off, and puts it back.
 */
static __always_inline int before(struct frame *f, __u64 off)
{
	__u32 zero = 0;
	void *spare = bpf_map_lookup_elem(&guard_spare, &zero);
	__u64 len = f->skb->len - off;

	if (!spare || len - 1 >= SPARE)
		return 0;
	len = (opaque(len - 1) & (SPARE - 1)) + 1;
	return !bpf_skb_load_bytes(f->skb, off, spare, len) && !bpf_skb_change_tail(f->skb, off, 0) &&
	       !bpf_skb_change_tail(f->skb, off + len, 0) && !bpf_skb_store_bytes(f->skb, off, spare, len, 0);
}

static __always_inline enum reason checksum(struct frame *f)
{
	if (!unfinished(f))
		return PASSED;
	STOP(CHECKSUM, !KEPT(f->skb, CHECKSUM_AT));
	if (rules.csum_start) {
		long at = place(f);

		STOP(CHECKSUM, at < (long)KEPT(f->skb, CHECKSUM_AT));
		STOP(CHECKSUM, KEPT(f->skb, PAYLOAD_AT) && at + 2 > (long)KEPT(f->skb, PAYLOAD_AT));
	} else {
		STOP(CHECKSUM, bpf_skb_change_tail(f->skb, KEPT(f->skb, CHECKSUM_AT) + 1, 0) != -EINVAL);
		STOP(CHECKSUM, KEPT(f->skb, PAYLOAD_AT) && !before(f, KEPT(f->skb, PAYLOAD_AT)));
	}
	return PASSED;
}
