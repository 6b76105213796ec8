/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the guard is told, and what it says. rules.go and reason.go have the same. */
#pragma once

#define MAX_MACS 8
#define MAX_HOST_MACS 4
#define MAX_ADDRESSES 16
#define MAX_GATEWAYS 5
#define MAX_SUBNETS 8

enum flags {
	LAYER3 = 1,	 /* own4 and own6 hold */
	ISOLATE = 2,	 /* subnets4 and subnets6 are out of reach */
	METADATA = 4,	 /* the cloud's metadata service is out of reach */
	VRRP = 8,	 /* may speak VRRP */
	GATEWAYS = 16,	 /* a gateway could be taken for an own address: look */
};

enum host_access { HOST_ALL, HOST_GATEWAY, HOST_NONE };

struct net4 {
	__be32 net, mask;
};

struct net6 {
	__u64 net[2], mask[2];
};

/*
 * What the guests of a network have in common, and what is known before the first
 * of them has an address: constants to the program, of which all ports with the
 * same ones share one.
 */
struct rules {
	__u64 netns; /* inode of the network namespace that the ports' indexes are of */
	__u32 flags;
	__u32 host_access;
	__u32 macs_len;
	__u32 own4_room, own6_room; /* at least as many as the port with the most has */
	__u32 storm_limit; /* a second; only to be read back */
	__u64 storm_interval; /* ns from one group frame to the next; 0: no limit */
	__u64 storm_burst;    /* ns that they may run ahead */
	__u64 group_interval; /* ns from one multicast group that is reported to the next; 0: no limit */
	__u64 plain[4]; /* a bit for each protocol */
	__u64 vlans[64]; /* a bit for each VLAN ID */
	/* What is the kernel's, not a network's: where in its packets csum_start and
	 * csum_offset are, in bytes, and how many __u16 later mac_header; 0 and 0 if
	 * nobody could tell. And whether it has bpf_check_mtu(). */
	__u32 csum_start, mac_header, checks_mtu, spare;
};

/* Places for ports, a power of two. A port's is the rest of its interface index. */
#define PORTS 1024

/*
 * What is a port's own. MAC addresses are in the low 48 bits, first byte lowest.
 * Places for own addresses that are not in use have a mask that no address fits.
 */
struct port {
	__u64 macs[MAX_MACS];
	struct net4 own4[MAX_ADDRESSES];
	struct net6 own6[MAX_ADDRESSES];
	__u64 host_macs[MAX_HOST_MACS];
	struct net6 subnets6[MAX_SUBNETS];
	__u64 gateways6[MAX_GATEWAYS][2];
	struct net4 subnets4[MAX_SUBNETS];
	__be32 gateways4[MAX_GATEWAYS];
	__u32 own4_len, own6_len; /* only to be read back */
	__u32 host_macs_len;
	__u32 subnets4_len, subnets6_len;
	__u32 gateways4_len, gateways6_len;
	__u32 bridge; /* ifindex of whoever routes for the guest */
	__u32 ifindex;
	__u64 storm;  /* ns of CLOCK_MONOTONIC: when the next group frame is due */
	__u64 passed; /* frames */
	__u64 groups; /* ns of CLOCK_MONOTONIC: when the next multicast group is due */
	__u64 apart[8]; /* what is written is in no cache line of the next port's */
};

/*
 * A bridge keeps each multicast group that is reported for 260 s, 4096 of all guests
 * together, and beyond that gives every group's frames to every port.
 */
#define GROUPS_AHEAD 256000000000ULL /* ns that reports may run ahead */

/* Why a frame was dropped: a reason for each rule. */
enum reason {
	PASSED,
	TRUNCATED_ETHERNET,
	SOURCE_MAC,
	LINK_LOCAL_GROUP,
	VLAN_NOT_ALLOWED,
	VLAN_TYPE,
	VLAN_STACKED,
	ETHERTYPE,
	TRUNCATED_ARP,
	ARP_FORMAT,
	ARP_OPERATION,
	ARP_SENDER_MAC,
	ARP_SENDER_IP,
	ARP_PROBE,
	TRUNCATED_IP4,
	IP4_HEADER,
	IP4_OPTIONS,
	IP4_LENGTH,
	IP4_SOURCE,
	IP4_UNSPECIFIED,
	IP4_PROTOCOL,
	IP4_FRAGMENT,
	TRUNCATED_IP6,
	IP6_HEADER,
	IP6_LENGTH,
	IP6_SOURCE,
	IP6_UNSPECIFIED,
	IP6_EXTENSION,
	IP6_ROUTING,
	IP6_FRAGMENT,
	IP6_PROTOCOL,
	TRUNCATED_TRANSPORT,
	DHCP4_SERVER,
	DHCP4_CLIENT,
	DHCP4_HARDWARE,
	DHCP4_CIADDR,
	DHCP6_SERVER,
	DHCP6_CLIENT,
	ICMP4_TYPE,
	IGMP_TYPE,
	ICMP6_TYPE,
	ND_FRAGMENT,
	ND_HOP_LIMIT,
	ND_TARGET,
	ND_OPTION,
	ISOLATED,
	HOST,
	METADATA_SERVICE,
	STORM,
	CHECKSUM,
	MULTICAST_REPORT,
	MULTICAST_GROUPS,
	ICMP_QUOTE,
	SEGMENT_SIZE,
	REASONS,
};

#define SAMPLE 128
/* How much is read of the kernel's packet, from csum_start on, in __u16. */
#define WINDOW 32

#define SPARE 2048 /* more than a frame that is no segment (GSO) */

struct sample {
	__u64 time; /* ns since boot, by CLOCK_MONOTONIC */
	__u32 length;
	__u32 captured;
	__u8 frame[SAMPLE];
};
