//go:build ignore

// The two programs of a splice. See splice.go.

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// TARGET is replaced with the interface index of the other device when the
// program is loaded. That way it is part of the program's tag, costs no map, and
// no load for each frame.
#define TARGET 0x6d76636e

static __always_inline __u32 target(void)
{
	__u32 index;

	asm("%0 = %1" : "=r"(index) : "i"(TARGET));
	return index;
}

// At the ingress of the tap: out of the other end of the veth pair, as if it had
// been received there, without a queue in between.
SEC("tc")
int to_bridge(struct __sk_buff *skb)
{
	return bpf_redirect_peer(target(), 0);
}

// At the ingress of the inner end of the veth pair: to the reader of the tap.
SEC("tc")
int to_guest(struct __sk_buff *skb)
{
	return bpf_redirect(target(), 0);
}

char __license[] SEC("license") = "Apache-2.0";
