package tcbpf

import (
	"slices"
	"testing"
)

// Every program is looked at once, whichever end it is nearer to.
func TestFromBothEnds(t *testing.T) {
	for _, c := range []struct{ ids, want []uint32 }{
		{nil, nil},
		{[]uint32{7}, []uint32{7}},
		{[]uint32{7, 8}, []uint32{7, 8}},
		{[]uint32{1, 2, 3, 4, 5}, []uint32{1, 5, 2, 4, 3}},
	} {
		if got := fromBothEnds(c.ids); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.ids, got, c.want)
		}
	}
}
