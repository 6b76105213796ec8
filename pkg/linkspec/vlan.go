package linkspec

import (
	"slices"
	"strconv"
)

// VLANDevice is the kind of a device that has the frames of one VLAN of the
// device below it, without their tags (802.1Q).
const VLANDevice Kind = "vlan"

// VLAN says that a port of a bridge, or the bridge itself, is in a VLAN.
type VLAN struct {
	ID       int
	PVID     bool // frames that come in without a tag are of this VLAN
	Untagged bool // its frames go out without a tag
}

// Native tells whether a station that knows nothing of tags is in the VLAN.
func (v VLAN) Native() bool { return v.PVID && v.Untagged }

func (v VLAN) flags() string {
	text := ""
	if v.PVID {
		text += " pvid"
	}
	if v.Untagged {
		text += " untagged"
	}
	return text
}

// FindVLAN returns the membership in the VLAN of that number, if there is one.
func FindVLAN(vlans []VLAN, id int) (VLAN, bool) {
	i := slices.IndexFunc(vlans, func(v VLAN) bool { return v.ID == id })
	if i < 0 {
		return VLAN{}, false
	}
	return vlans[i], true
}

// vlanTexts are the VLANs in order of their numbers, neighbours of one kind as
// one range.
func vlanTexts(vlans []VLAN) []string {
	sorted := slices.Clone(vlans)
	slices.SortFunc(sorted, func(a, b VLAN) int { return a.ID - b.ID })
	var texts []string
	for i := 0; i < len(sorted); {
		first, last := sorted[i], sorted[i]
		for i++; i < len(sorted) && sorted[i].ID == last.ID+1 && sorted[i].flags() == first.flags(); i++ {
			last = sorted[i]
		}
		text := strconv.Itoa(first.ID)
		if last.ID != first.ID {
			text += "-" + strconv.Itoa(last.ID)
		}
		texts = append(texts, text+first.flags())
	}
	return texts
}
