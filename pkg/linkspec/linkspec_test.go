package linkspec

import (
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// identity lists the fields of Link that say which link is meant or what to do
// with it, and what is only observed. Every other field is declared and compared.
var identity = []string{"Role", "Kind", "Name", "Netns", "Peer", "Lower", "Index", "Guest", "GuestAddresses", "Context", "Shaped", "XDP", "DefaultPVID"}

// optional lists the fields that not every kernel tells.
var optional = []string{"McastRouter", "Locked"}

// filled returns a value of the type of a Link's field that is not its zero.
func filled(t *testing.T, typ reflect.Type) reflect.Value {
	t.Helper()
	switch typ {
	case reflect.TypeFor[net.HardwareAddr]():
		return reflect.ValueOf(net.HardwareAddr{2, 0, 0, 0, 0, 1})
	case reflect.TypeFor[[]net.HardwareAddr]():
		return reflect.ValueOf([]net.HardwareAddr{{2, 0, 0, 0, 0, 1}})
	case reflect.TypeFor[[]Address]():
		return reflect.ValueOf([]Address{{Prefix: netip.MustParsePrefix("10.0.0.1/24")}})
	case reflect.TypeFor[[]VLAN]():
		return reflect.ValueOf([]VLAN{{ID: 100}})
	case reflect.TypeFor[[]netip.Prefix]():
		return reflect.ValueOf([]netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")})
	case reflect.TypeFor[[]string]():
		return reflect.ValueOf([]string{"a"})
	case reflect.TypeFor[*string]():
		return reflect.ValueOf(new("a"))
	case reflect.TypeFor[*Guard]():
		return reflect.ValueOf(&Guard{MACs: []net.HardwareAddr{{2, 0, 0, 0, 0, 1}}})
	case reflect.TypeFor[*int]():
		return reflect.ValueOf(new(7))
	case reflect.TypeFor[*uint32]():
		return reflect.ValueOf(new(uint32(7)))
	case reflect.TypeFor[[]int]():
		return reflect.ValueOf([]int{100})
	case reflect.TypeFor[*Shaping]():
		return reflect.ValueOf(&Shaping{Limits: Limits{ToGuest: Limit{Rate: 8e6}}})
	case reflect.TypeFor[*bool]():
		return reflect.ValueOf(new(true))
	}
	t.Fatalf("no example of %s: add one", typ)
	return reflect.Value{}
}

// A field that is added to Link and forgotten in the table would be accepted
// from the user and then neither set nor checked.
func TestEveryFieldHasACaseInDiff(t *testing.T) {
	typ := reflect.TypeFor[Link]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if slices.Contains(identity, f.Name) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			want := Link{Name: "x"}
			reflect.ValueOf(&want).Elem().Field(i).Set(filled(t, f.Type))
			got := Link{Name: "x"}
			if len(f.Name) > 2 && f.Name[:2] == "No" { // declared absent: there must be something to be absent
				got = Link{Name: "x", AltNames: want.NoAltNames, Stations: want.NoStations}
				for _, p := range want.NoAddresses {
					got.Addresses = append(got.Addresses, Address{Prefix: p})
				}
			}
			if slices.Contains(optional, f.Name) { // the kernel tells it, and tells another value
				reflect.ValueOf(&got).Elem().Field(i).Set(reflect.New(f.Type.Elem()))
			}
			if d := Diff(want, got); len(d) != 1 {
				t.Fatalf("Diff finds %v, want one difference", d)
			}
			change, differs := Change(want, got)
			if !differs || !reflect.DeepEqual(reflect.ValueOf(change).Field(i).Interface(), reflect.ValueOf(want).Field(i).Interface()) {
				t.Errorf("Change does not carry the field: %+v", change)
			}
			if want.String() == (Link{Name: "x"}).String() {
				t.Error("the text form does not show the field")
			}
			if d := Diff(Link{Name: "x"}, want); len(d) != 0 {
				t.Errorf("an undeclared field is compared: %v", d)
			}
		})
	}
}

// What a kernel does not have is asked for all the same, and not missed then.
func TestOptionalFields(t *testing.T) {
	want := Link{Name: "x", Locked: new(true), McastRouter: new(false)}
	if change, _ := Change(want, Link{Name: "x"}); change.Locked == nil || change.McastRouter == nil {
		t.Errorf("Change does not carry the fields: %v", change)
	}
	if d := Diff(want, Link{Name: "x"}); len(d) != 0 {
		t.Errorf("missed where the kernel does not tell them: %v", d)
	}
}

// A change that is split declares all that it did, and is up last.
func TestSplit(t *testing.T) {
	change := example()
	change.Guard = &Guard{MACs: []net.HardwareAddr{change.Guest}}
	each := Split(change)
	var sum, last Link
	for _, last = range each {
		for _, f := range fields {
			if len(f.texts(&last)) > 0 {
				f.take(&sum, &last)
			}
		}
	}
	if diffs := Diff(change, sum); len(diffs) != 1 || diffs[0].Field != "kind" {
		t.Errorf("lost: %v", diffs)
	}
	if last.Up == nil {
		t.Errorf("the last is %s", last)
	}
	if none := Split(Link{Role: Owned, Kind: Tap, Name: "x"}); none != nil {
		t.Errorf("nothing is split into %v", none)
	}
}

func TestDiffOfEqualLinksIsEmpty(t *testing.T) {
	l := example()
	if d := Diff(l, l); len(d) != 0 {
		t.Errorf("differences: %v", d)
	}
	if _, differs := Change(l, l); differs {
		t.Error("there is a change")
	}
}

func example() Link {
	return Link{
		Role: Adopted, Kind: Tap, Name: "mvt-a", Guest: net.HardwareAddr{2, 0, 0, 0, 0, 9},
		Alias: new("microvm-cni:lab/vm/eth0"), AltNames: []string{"h1", "h2"}, MAC: net.HardwareAddr{0xfe, 0, 0, 0, 0, 9},
		MTU: new(1500), TxQueueLen: new(1000), Promisc: new(false), Master: new("br0"), Up: new(true),
		IPv6: new(false), AcceptRA: new(false), ARPIgnore: new(true), Owner: new(uint32(1000)), Group: new(NoID), MultiQueue: new(true), Persist: new(true),
		Hairpin: new(false), Isolated: new(true), Addresses: []Address{{Prefix: netip.MustParsePrefix("10.0.0.1/24")}},
	}
}

func TestString(t *testing.T) {
	want := `adopted tap mvt-a
    guest 02:00:00:00:00:09
    altname h1
    altname h2
    alias "microvm-cni:lab/vm/eth0"
    link/ether fe:00:00:00:00:09
    mtu 1500
    qlen 1000
    promisc off
    master br0
    ipv6 off
    accept_ra off
    arp_ignore on
    user 1000
    group none
    multi_queue on
    persist on
    hairpin off
    isolated on
    inet 10.0.0.1/24
    up on
sysctl net.ipv4.ip_forward = 1
`
	s := State{Links: []Link{example()}, Sysctls: []Sysctl{{Key: "net.ipv4.ip_forward", Value: "1"}}}
	if got := s.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDifferenceReadsAsASentence(t *testing.T) {
	addr := netip.MustParsePrefix("10.0.0.1/24")
	for _, c := range []struct {
		name      string
		want, got Link
		text      string
	}{
		{"scalar", Link{Name: "t", MTU: new(1500)}, Link{MTU: new(1400)}, "t: mtu is 1400, expected 1500"},
		{"nothing there", Link{Name: "t", Master: new("br0")}, Link{Master: new("")}, "t: master is none, expected br0"},
		{"one of several", Link{Name: "t", AltNames: []string{"a", "b"}}, Link{AltNames: []string{"a"}}, "t: altname is a, expected b"},
		{"must be absent", Link{Name: "b", NoAddresses: []netip.Prefix{addr}}, Link{Addresses: []Address{{Prefix: addr}}}, "b: inet 10.0.0.1/24 is there, expected none"},
		{"failed DAD", Link{Name: "b", Addresses: []Address{{Prefix: addr}}}, Link{Addresses: []Address{{Prefix: addr, Failed: true}}}, "b: inet is none, expected 10.0.0.1/24"},
		{"kind", Link{Name: "b", Kind: Bridge}, Link{Kind: "dummy"}, "b: kind is dummy, expected bridge"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Diff(c.want, c.got)
			if len(d) != 1 || d[0].String() != c.text {
				t.Errorf("got %v, want %q", d, c.text)
			}
		})
	}
	if got := Absent(Link{Name: "t", Kind: Tap}).String(); got != "t: link is none, expected a tap" {
		t.Errorf("absent: %q", got)
	}
}

// Undo, set after Change, must give back what was there, and touch nothing else.
func TestUndoTurnsChangeBack(t *testing.T) {
	a, b := netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.9.9.1/24")
	got := Link{
		Name: "br0", MTU: new(1500), Up: new(false), Promisc: new(false), Alias: new(""), Master: new(""),
		AltNames: []string{"old", "bad"}, Addresses: []Address{{Prefix: b, NoDAD: true}}, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1},
	}
	want := Link{
		Name: "br0", MTU: new(1400), Up: new(true), Promisc: new(false), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		AltNames: []string{"old", "new"}, NoAltNames: []string{"bad"},
		Addresses: []Address{{Prefix: a}}, NoAddresses: []netip.Prefix{b},
	}
	undo := Undo(want, got)
	expect := Link{
		MTU: new(1500), Up: new(false), MAC: got.MAC,
		AltNames: []string{"bad"}, NoAltNames: []string{"new"},
		Addresses: got.Addresses, NoAddresses: []netip.Prefix{a},
	}
	if !reflect.DeepEqual(undo, expect) {
		t.Errorf("got  %+v\nwant %+v", undo, expect)
	}
}

// Whether an address skipped duplicate address detection is looked at where it is
// exact.
func TestExactAddress(t *testing.T) {
	for _, test := range []struct {
		want, got Address
		differs   bool
	}{
		{Address{Prefix: netip.MustParsePrefix("fd00::1/64"), NoDAD: true}, Address{Prefix: netip.MustParsePrefix("fd00::1/64")}, false},
		{Address{Prefix: netip.MustParsePrefix("fd00::1/64"), NoDAD: true, Exact: true}, Address{Prefix: netip.MustParsePrefix("fd00::1/64")}, true},
		{Address{Prefix: netip.MustParsePrefix("fd00::1/64"), Exact: true}, Address{Prefix: netip.MustParsePrefix("fd00::1/64"), NoDAD: true}, true},
		{Address{Prefix: netip.MustParsePrefix("fd00::1/64"), Exact: true}, Address{Prefix: netip.MustParsePrefix("fd00::1/64")}, false},
		{Address{Prefix: netip.MustParsePrefix("fd00::1/64"), NoDAD: true, Exact: true}, Address{Prefix: netip.MustParsePrefix("fd00::1/64"), NoDAD: true}, false},
		{Address{Prefix: netip.MustParsePrefix("10.0.0.1/24"), NoDAD: true, Exact: true}, Address{Prefix: netip.MustParsePrefix("10.0.0.1/24")}, false},
	} {
		diffs := Diff(Link{Name: "x", Addresses: []Address{test.want}}, Link{Name: "x", Addresses: []Address{test.got}})
		if (len(diffs) > 0) != test.differs {
			t.Errorf("want %+v, got %+v: differences %v", test.want, test.got, diffs)
		}
	}
}
