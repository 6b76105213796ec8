package linkspec

import (
	"slices"
	"testing"
)

func TestVLANTexts(t *testing.T) {
	for _, c := range []struct {
		vlans []VLAN
		want  []string
	}{
		{nil, nil},
		{[]VLAN{{ID: 1, PVID: true, Untagged: true}}, []string{"1 pvid untagged"}},
		{[]VLAN{{ID: 7}, {ID: 5}, {ID: 6}}, []string{"5-7"}},
		{[]VLAN{{ID: 5}, {ID: 6, Untagged: true}, {ID: 7}, {ID: 9}}, []string{"5", "6 untagged", "7", "9"}},
		{[]VLAN{{ID: 5, Untagged: true}, {ID: 6, Untagged: true}, {ID: 7, PVID: true}}, []string{"5-6 untagged", "7 pvid"}},
	} {
		if got := vlanTexts(c.vlans); !slices.Equal(got, c.want) {
			t.Errorf("%v is %q, want %q", c.vlans, got, c.want)
		}
	}
}

// The order in which VLANs are declared or told is no difference; each flag is.
func TestDiffOfVLANs(t *testing.T) {
	want := Link{Name: "tap0", VLANs: []VLAN{{ID: 200}, {ID: 100, PVID: true, Untagged: true}}}
	for _, c := range []struct {
		vlans []VLAN
		diffs int
	}{
		{[]VLAN{{ID: 100, PVID: true, Untagged: true}, {ID: 200}}, 0},
		{[]VLAN{{ID: 100, PVID: true, Untagged: true}}, 1},
		{[]VLAN{{ID: 100, PVID: true}, {ID: 200}}, 1},
		{[]VLAN{{ID: 100, Untagged: true}, {ID: 200}}, 1},
		{[]VLAN{{ID: 100, PVID: true, Untagged: true}, {ID: 200}, {ID: 201}}, 1},
		{nil, 1},
	} {
		if diffs := Diff(want, Link{Name: "tap0", VLANs: c.vlans}); len(diffs) != c.diffs {
			t.Errorf("%v: differences are %v, want %d", c.vlans, diffs, c.diffs)
		}
	}
}
