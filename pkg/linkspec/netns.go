package linkspec

import "strings"

// Veth is one end of a pair of devices, of which each gets what is sent on the
// other.
const Veth Kind = "veth"

// Place is where a link is, and what it is called there: its identity.
type Place struct {
	Netns string // path of the network namespace; "" for the host's
	Name  string
}

// in sets the name apart from the namespace in a key. No device name holds
// white space.
const in = " in "

// Key is the place as a word to find a link by: on the host the name alone.
func Key(netns, name string) string {
	if netns == "" {
		return name
	}
	return name + in + netns
}

// SplitKey is the place that a key stands for.
func SplitKey(key string) Place {
	name, netns, _ := strings.Cut(key, in)
	return Place{Netns: netns, Name: name}
}

// Key is the key of the link's place.
func (l Link) Key() string { return Key(l.Netns, l.Name) }
