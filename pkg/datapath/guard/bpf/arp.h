/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

struct arp {
	__be16 hardware, protocol;
	__u8 hardware_len, protocol_len;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN], sender_ip[4];
	__u8 target_mac[ETH_ALEN], target_ip[4];
};

static __always_inline enum reason arp(struct frame *f)
{
	const struct arp *a = f->data + ETH_HLEN;
	__be32 sender, target;

	if ((void *)(a + 1) > f->end)
		FAIL(TRUNCATED_ARP);
	STOP(ARP_FORMAT, (a->hardware ^ bpf_htons(1)) | (a->protocol ^ bpf_htons(ETH_P_IP)) |
				 (a->hardware_len ^ ETH_ALEN) | (a->protocol_len ^ 4));
	STOP(ARP_OPERATION, (__u16)(bpf_ntohs(a->operation) - 1) > 1);
	STOP(ARP_SENDER_MAC, mac(a->sender_mac) != f->src);
	sender = *(const __be32 *)a->sender_ip;
	target = *(const __be32 *)a->target_ip;
	if (!sender && a->operation == bpf_htons(1)) {
		/* Whoever probes for an address keeps others from taking it. */
		STOP(ARP_PROBE, !own4(f, target));
		return PASSED;
	}
	STOP(ARP_SENDER_IP, !sender || !own4(f, sender));
	return PASSED;
}
