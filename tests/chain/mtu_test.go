package chain

import "testing"

// A tap with longer frames than its bridge's is refused, and nothing is left.
func TestTapLargerThanTheBridge(t *testing.T) {
	for _, test := range []struct {
		name        string
		tap, bridge conf
		there       bool
	}{
		{"new bridge", conf{"mtu": 9000}, nil, false},
		{"bridge that was there", conf{"mtu": 9000}, nil, true},
		{"existing, by the tap's key", conf{"mtu": 9000}, conf{"bridgeMode": "existing"}, true},
		{"existing, by the bridge's key", nil, conf{"bridgeMode": "existing", "mtu": 9000}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			if test.there {
				h.bridge("br0", "")
			}
			n, v := h.network("lab", newest, tap.with(test.tap), plain.with(test.bridge)), h.vm("vm1")
			_, err := n.tryAdd(v)
			wantError(t, err, 7, "9000", "1500", "br0")
			n.remove(v)
			h.empty()
		})
	}
}

// A bridge whose MTU would follow its ports' keeps it, while guests with a
// smaller one come and go.
func TestBridgeMTUIsKept(t *testing.T) {
	for _, mode := range []string{"create", "existing"} {
		t.Run(mode, func(t *testing.T) {
			h := newHost(t)
			h.bridge("br0", "")
			n := h.network("lab", newest, tap.with(conf{"mtu": 1300}), plain.with(conf{"bridgeMode": mode}))
			one, two := h.vm("vm1"), h.vm("vm2")
			for _, step := range []func(){
				func() { n.add(one) }, func() { n.add(two) }, func() { n.remove(one) }, func() { n.remove(two) },
			} {
				if step(); h.link("br0").MTU != 1500 {
					t.Errorf("MTU is %d, was 1500", h.link("br0").MTU)
				}
			}
		})
	}
}
