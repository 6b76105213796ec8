package guard

// Reason is why a frame was dropped: which rule did it.
type Reason uint32

// passed counts the frames that were not dropped.
const passed Reason = 0

// reasons are those of enum reason in bpf/rules.h, in its order: what bpftool
// shows as guard_drops are their counters.
var reasons = [...]struct{ name, meaning string }{
	{"passed", "not dropped"},
	{"truncated-ethernet", "a frame shorter than an Ethernet header"},
	{"source-mac", "the source MAC address is not the guest's"},
	{"link-local-group", "to 01:80:c2:00:00:xx: BPDU, LLDP, EAPOL, LACP and the like"},
	{"vlan-not-allowed", "a VLAN tag that the guest may not use"},
	{"vlan-type", "a service provider's tag (802.1ad)"},
	{"vlan-stacked", "a tag inside a tag"},
	{"ethertype", "neither IPv4 nor IPv6 nor ARP"},
	{"truncated-arp", "ARP that is too short"},
	{"arp-format", "ARP for something else than IPv4 on Ethernet"},
	{"arp-operation", "ARP that is neither request nor reply"},
	{"arp-sender-mac", "ARP whose sender is not the frame's"},
	{"arp-sender-ip", "ARP for an address that is not the guest's"},
	{"arp-probe", "an ARP probe for an address that is not the guest's"},
	{"truncated-ip4", "IPv4 that is too short"},
	{"ip4-header", "an IPv4 header that is none"},
	{"ip4-options", "IPv4 options"},
	{"ip4-length", "IPv4 that is longer than its frame, or shorter than its header"},
	{"ip4-source", "the IPv4 source address is not the guest's"},
	{"ip4-unspecified", "from 0.0.0.0, and no DHCP discovery"},
	{"ip4-protocol", "an IPv4 protocol that guests do not speak"},
	{"ip4-fragment", "a fragment of IGMP"},
	{"truncated-ip6", "IPv6 that is too short"},
	{"ip6-header", "an IPv6 header that is none"},
	{"ip6-length", "IPv6 that is longer than its frame"},
	{"ip6-source", "the IPv6 source address is not the guest's"},
	{"ip6-unspecified", "from ::, and neither DAD nor RS nor MLD"},
	{"ip6-extension", "extension headers that are malformed, too many, or in the wrong place"},
	{"ip6-routing", "a routing header that is of type 0 or not used up"},
	{"ip6-fragment", "a fragment of a fragment"},
	{"ip6-protocol", "an IPv6 protocol that guests do not speak"},
	{"truncated-transport", "a TCP, UDP, ICMP or IGMP header that is not there in full"},
	{"dhcp4-server", "from a DHCP server's port, or to a DHCP client's"},
	{"dhcp4-client", "to a DHCP server, and no request of a client"},
	{"dhcp4-hardware", "a DHCP request for another MAC address"},
	{"dhcp4-ciaddr", "a DHCP request for an address that is not the guest's"},
	{"dhcp6-server", "from a DHCPv6 server's port, or to a DHCPv6 client's"},
	{"dhcp6-client", "to a DHCPv6 server, and no request of a client"},
	{"icmp4-type", "an ICMP redirect or router advertisement"},
	{"igmp-type", "IGMP that is no report"},
	{"icmp6-type", "an ICMPv6 router advertisement, redirect, MLD query, or the like"},
	{"nd-fragment", "a fragment of neighbour discovery or MLD"},
	{"nd-hop-limit", "neighbour discovery that could come from afar"},
	{"nd-target", "neighbour discovery that claims an address that is not the guest's"},
	{"nd-option", "neighbour discovery with a MAC address that is not the frame's, or unknown options"},
	{"isolated", "to a neighbour of a guest that is isolated"},
	{"host", "to the host, which is not open to the guest"},
	{"metadata-service", "to the cloud's metadata service"},
	{"storm", "more broadcasts and multicasts than the limit"},
	{"checksum", "a checksum that the kernel is to write over what was judged"},
	{"multicast-report", "an IGMP or MLD report that others hear and the bridge does not"},
	{"multicast-groups", "reports of more multicast groups than the limit"},
	{"icmp-quote", "an ICMP error about a packet that was not to the guest"},
	{"segment-size", "to be cut into segments (GSO) that are longer than the port's MTU, and carry more than 1480 bytes each"},
}

// String is the reason's short name.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r].name
	}
	return "unknown"
}

// Meaning says in a few words what was wrong with the frame.
func (r Reason) Meaning() string {
	if int(r) < len(reasons) {
		return reasons[r].meaning
	}
	return "a reason of another version of the plugin"
}
