package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

var (
	vm1        = attachment.Attachment{Network: "lab", ContainerID: "vm1", IfName: "eth0"}
	vm2        = attachment.Attachment{Network: "lab", ContainerID: "vm2", IfName: "eth0"}
	foreignMAC = net.HardwareAddr{0x0a, 0, 0, 0, 0, 1}
	gateway    = linkspec.Address{Prefix: netip.MustParsePrefix("10.0.0.1/24"), NoDAD: true}
)

func tapState(a attachment.Attachment) linkspec.State {
	return linkspec.State{Links: []linkspec.Link{{
		Role: linkspec.Owned, Kind: linkspec.Tap, Name: a.TapName(), Alias: new(attachment.Tag{Attachment: a}.String()),
		AltNames: []string{a.TapHandle()}, MAC: attachment.TapMAC(a.GuestMAC()), IPv6: new(false), AcceptRA: new(false),
		Owner: new(uint32(1000)), Group: new(linkspec.NoID), MultiQueue: new(false), Persist: new(true),
	}}}
}

func claimState(a attachment.Attachment) linkspec.State {
	return linkspec.State{Links: []linkspec.Link{{Role: linkspec.Adopted, Kind: linkspec.Tap, Name: a.TapName(), AltNames: []string{a.PortHandle()}}}}
}

// bridgeState is that of a host-internal bridge with a gateway. A bridge that
// is somebody else's is declared without alias and MTU of ours.
func bridgeState(a attachment.Attachment, own bool) linkspec.State {
	bridge := linkspec.Link{Role: linkspec.Shared, Kind: linkspec.Bridge, Name: "br0", Up: new(true), Addresses: []linkspec.Address{gateway}}
	bridge.MAC = foreignMAC
	if own {
		bridge.MAC = nil
		bridge.Alias, bridge.MTU, bridge.Promisc, bridge.AcceptRA = new(attachment.BridgeTag), new(1500), new(false), new(false)
	}
	port := linkspec.Link{
		Role: linkspec.Adopted, Kind: linkspec.Tap, Name: a.TapName(), Guest: a.GuestMAC(), AltNames: []string{a.PortHandle()},
		Master: new("br0"), MTU: new(1500), Hairpin: new(false), Isolated: new(true), Disabled: new(false), IPv6: new(false), AcceptRA: new(false), Up: new(true),
	}
	return linkspec.State{Links: []linkspec.Link{bridge, port}, Sysctls: []linkspec.Sysctl{{Key: "net.ipv4.ip_forward", Value: "1"}}}
}

// joinState is that of somebody else's bridge, with a tap of a smaller MTU.
func joinState(a attachment.Attachment) linkspec.State {
	s := bridgeState(a, false)
	s.Links[0].Role, s.Links[0].Addresses, s.Links[0].MTU = linkspec.Joined, nil, new(1500)
	s.Links[1].MTU = new(1400)
	return s
}

func apply(t *testing.T, k reconcile.Kernel, states ...linkspec.State) {
	t.Helper()
	for _, s := range states {
		if _, err := reconcile.Apply(t.Context(), k, s); err != nil {
			t.Fatal(err)
		}
	}
}

// attach brings about all that vm's ADDs declare.
func attach(t *testing.T, k reconcile.Kernel, a attachment.Attachment) {
	t.Helper()
	apply(t, k, tapState(a), claimState(a), bridgeState(a, true))
}

// links is a snapshot without the host-wide parameters, which no rollback
// turns back.
func links(k *fake.Kernel) string {
	text, _, _ := strings.Cut(k.Snapshot(), "sysctl ")
	return strings.NewReplacer("    forwarding on\n", "", "    forwarding off\n", "").Replace(text) // it follows ip_forward
}

// faulty fails its nth call, once.
type faulty struct {
	reconcile.Kernel
	left int
}

var errInjected = errors.New("injected")

func (f *faulty) call() error {
	f.left--
	if f.left == 0 {
		return errInjected
	}
	return nil
}

func (f *faulty) Link(name string) (linkspec.Link, error) {
	if err := f.call(); err != nil {
		return linkspec.Link{}, err
	}
	return f.Kernel.Link(name)
}

func (f *faulty) Ports(bridge string) ([]linkspec.Link, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	return f.Kernel.Ports(bridge)
}

func (f *faulty) Create(l linkspec.Link) (reconcile.Draft, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	d, err := f.Kernel.Create(l)
	return faultyDraft{d, f}, err
}

// Set fails after it did what it was asked for: the harder case to undo.
func (f *faulty) Set(l, change linkspec.Link) error {
	if err := f.Kernel.Set(l, change); err != nil {
		return err
	}
	return f.call()
}

func (f *faulty) Holder(bridge string, mac net.HardwareAddr) (string, error) {
	if err := f.call(); err != nil {
		return "", err
	}
	return f.Kernel.Holder(bridge, mac)
}

func (f *faulty) Sysctl(key string) (string, error) {
	if err := f.call(); err != nil {
		return "", err
	}
	return f.Kernel.Sysctl(key)
}

func (f *faulty) SetSysctl(key, value string) error {
	if err := f.call(); err != nil {
		return err
	}
	return f.Kernel.SetSysctl(key, value)
}

type faultyDraft struct {
	reconcile.Draft
	f *faulty
}

// Keep fails after it kept the link.
func (d faultyDraft) Keep() error {
	if err := d.Draft.Keep(); err != nil {
		return err
	}
	return d.f.call()
}

// hosts are what an ADD may find.
var hosts = []struct {
	name  string
	state func(*testing.T) linkspec.State // to be applied
	host  func(*testing.T) *fake.Kernel
}{
	{"a tap on an empty host", func(*testing.T) linkspec.State { return tapState(vm1) }, func(*testing.T) *fake.Kernel { return fake.New() }},
	{
		"a claim", func(*testing.T) linkspec.State { return claimState(vm1) },
		func(t *testing.T) *fake.Kernel { k := fake.New(); apply(t, k, tapState(vm1)); return k },
	},
	{
		"a bridge to be made", func(*testing.T) linkspec.State { return bridgeState(vm1, true) },
		func(t *testing.T) *fake.Kernel {
			k := fake.New()
			apply(t, k, tapState(vm1), claimState(vm1))
			return k
		},
	},
	{
		"limits", func(*testing.T) linkspec.State { return limited(vm1) },
		func(t *testing.T) *fake.Kernel {
			k := fake.New()
			apply(t, k, tapState(vm1), claimState(vm1))
			return k
		},
	},
	{
		"our bridge with another port", func(*testing.T) linkspec.State { return bridgeState(vm1, true) },
		func(t *testing.T) *fake.Kernel {
			k := fake.New()
			attach(t, k, vm2)
			apply(t, k, tapState(vm1), claimState(vm1))
			return k
		},
	},
	{
		"somebody's bridge, down and without the gateway", func(*testing.T) linkspec.State { return bridgeState(vm1, false) },
		func(t *testing.T) *fake.Kernel {
			k := fake.New()
			k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", MAC: foreignMAC, Alias: new("mine")})
			apply(t, k, tapState(vm1), claimState(vm1))
			return k
		},
	},
	{
		"somebody's bridge to be joined, which follows its ports", func(*testing.T) linkspec.State { return joinState(vm1) },
		func(t *testing.T) *fake.Kernel {
			k := fake.New()
			k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", MAC: foreignMAC, Up: new(true)})
			apply(t, k, tapState(vm1), claimState(vm1))
			return k
		},
	},
}

// Whichever call fails, the host is as it was before.
func TestApplyIsAllOrNothing(t *testing.T) {
	for _, c := range hosts {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; ; n++ {
				k := c.host(t)
				before := links(k)
				f := &faulty{Kernel: k, left: n}
				_, err := reconcile.Apply(context.Background(), f, c.state(t))
				if f.left > 0 {
					if err != nil {
						t.Fatalf("nothing was made to fail: %v", err)
					}
					if n < 3 {
						t.Fatalf("only %d calls were made", n-1)
					}
					return
				}
				if !errors.Is(err, errInjected) {
					t.Errorf("call %d failed, Apply says %v", n, err)
				}
				if after := links(k); after != before {
					t.Fatalf("call %d failed and left\n%s\nwhere there was\n%s", n, after, before)
				}
			}
		})
	}
}

func TestUndoAfterSuccess(t *testing.T) {
	for _, c := range hosts {
		t.Run(c.name, func(t *testing.T) {
			k := c.host(t)
			before := links(k)
			r, err := reconcile.Apply(t.Context(), k, c.state(t))
			if err != nil {
				t.Fatal(err)
			}
			if links(k) == before {
				t.Fatal("nothing was done")
			}
			if err := r.Undo(); err != nil {
				t.Fatal(err)
			}
			if after := links(k); after != before {
				t.Errorf("left\n%s\nwhere there was\n%s", after, before)
			}
		})
	}
}

// What others came to rely on in the meantime is not undone.
func TestUndoLeavesASharedBridgeToOtherPorts(t *testing.T) {
	k := fake.New()
	apply(t, k, tapState(vm1), claimState(vm1))
	r, err := reconcile.Apply(t.Context(), k, bridgeState(vm1, true))
	if err != nil {
		t.Fatal(err)
	}
	attach(t, k, vm2)
	if err = r.Undo(); err != nil {
		t.Fatal(err)
	}
	diffs, err := reconcile.Diff(k, bridgeState(vm2, true))
	if err != nil || len(diffs) > 0 {
		t.Errorf("the other attachment suffers: %v, %v", diffs, err)
	}

	k = fake.New()
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", MAC: foreignMAC})
	apply(t, k, tapState(vm1), claimState(vm1))
	if r, err = reconcile.Apply(t.Context(), k, bridgeState(vm1, false)); err != nil {
		t.Fatal(err)
	}
	apply(t, k, tapState(vm2), claimState(vm2), bridgeState(vm2, false))
	if err = r.Undo(); err != nil {
		t.Fatal(err)
	}
	diffs, err = reconcile.Diff(k, bridgeState(vm2, false))
	if err != nil || len(diffs) > 0 {
		t.Errorf("the other attachment suffers: %v, %v", diffs, err)
	}
}

// An ADD repairs what is shared, and what it finds as it should be it leaves.
func TestApplyRepairsWhatIsShared(t *testing.T) {
	k := fake.New()
	attach(t, k, vm1)
	whole := links(k)
	k.Edit("br0", func(l *linkspec.Link) { l.Addresses, l.Promisc, l.Up = nil, new(true), new(false) })
	if diffs, _ := reconcile.Diff(k, bridgeState(vm1, true)); len(diffs) != 3 {
		t.Errorf("differences are %v, want three", diffs)
	}
	apply(t, k, bridgeState(vm1, true))
	if after := links(k); after != whole {
		t.Errorf("repaired to\n%s\nwant\n%s", after, whole)
	}
}

func TestCreateRefusesWhatIsThere(t *testing.T) {
	k := fake.New()
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: vm1.TapName()})
	before := links(k)
	_, err := reconcile.Apply(t.Context(), k, tapState(vm1))
	wantCode(t, err, cnierr.Exists)
	if after := links(k); after != before {
		t.Errorf("left\n%s\nwhere there was\n%s", after, before)
	}
}

func wantCode(t *testing.T, err error, code cnierr.Code) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if e := cnierr.Find(err, 0, ""); e.Code != code || e.Details == "" {
		t.Errorf("error is %d %q (%q), want code %d and details", e.Code, e.Msg, e.Details, code)
	}
}

// A bridge that came up between the plan's look and the engine's is not ours.
func TestBridgeThatAppearsIsNotTaken(t *testing.T) {
	k := fake.New()
	apply(t, k, tapState(vm1), claimState(vm1))
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", MAC: foreignMAC, Alias: new("mine")})
	before := links(k)
	_, err := reconcile.Apply(t.Context(), k, bridgeState(vm1, true))
	wantCode(t, err, cnierr.TryAgain)
	if after := links(k); after != before {
		t.Errorf("left\n%s\nwhere there was\n%s", after, before)
	}
}

func TestJoinedBridgeIsNeverChanged(t *testing.T) {
	k := fake.New()
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", MAC: foreignMAC})
	apply(t, k, tapState(vm1), claimState(vm1))
	s := joinState(vm1)
	before := links(k)
	_, err := reconcile.Apply(t.Context(), k, s)
	wantCode(t, err, cnierr.Mismatch)
	if !strings.Contains(fmt.Sprint(err), "br0: up is off, expected on") {
		t.Errorf("error is %v", err)
	}
	if after := links(k); after != before {
		t.Errorf("left\n%s\nwhere there was\n%s", after, before)
	}
}

func TestMACThatIsTaken(t *testing.T) {
	for _, c := range []struct {
		name  string
		guest net.HardwareAddr
		prep  func(*fake.Kernel)
		by    string
	}{
		{"by another guest", vm2.GuestMAC(), func(*fake.Kernel) {}, vm2.TapName()},
		{"by the bridge", net.HardwareAddr{2, 0xbb, 0, 0, 0, 1}, func(k *fake.Kernel) {
			k.Edit("br0", func(l *linkspec.Link) { l.MAC = net.HardwareAddr{2, 0xbb, 0, 0, 0, 1} })
		}, "br0"},
		{"by a static entry", net.HardwareAddr{2, 0xcc, 0, 0, 0, 1}, func(k *fake.Kernel) {
			k.Bind("br0", net.HardwareAddr{2, 0xcc, 0, 0, 0, 1}, vm2.TapName())
		}, vm2.TapName()},
	} {
		for _, bound := range [][]net.HardwareAddr{nil, {c.guest}} {
			k := fake.New()
			attach(t, k, vm2)
			c.prep(k)
			tap := tapState(vm1)
			tap.Links[0].MAC = attachment.TapMAC(c.guest)
			apply(t, k, tap, claimState(vm1))
			before := links(k)
			s := bridgeState(vm1, true)
			s.Links[1].Guest, s.Links[1].Stations = c.guest, bound
			_, err := reconcile.Apply(t.Context(), k, s)
			wantCode(t, err, cnierr.Config)
			if !strings.Contains(fmt.Sprint(err), "is taken on bridge br0, by "+c.by) {
				t.Errorf("%s: error is %v", c.name, err)
			}
			if after := links(k); after != before {
				t.Errorf("%s: left\n%s\nwhere there was\n%s", c.name, after, before)
			}
		}
	}
}

func TestCancelledApplyLeavesNothing(t *testing.T) {
	k := fake.New()
	before := links(k)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reconcile.Apply(ctx, k, tapState(vm1)); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if after := links(k); after != before {
		t.Errorf("left\n%s", after)
	}
}

func TestObserve(t *testing.T) {
	k := fake.New()
	apply(t, k, tapState(vm1))
	got, err := reconcile.Observe(k, []string{vm1.TapHandle(), "nothing"})
	if err != nil || len(got) != 1 || got[vm1.TapHandle()].Name != vm1.TapName() {
		t.Errorf("observed %v, %v", got, err)
	}
}

// namesake lets somebody else take the name of a tap as soon as that is gone.
type namesake struct {
	*fake.Kernel
}

func (k namesake) Create(l linkspec.Link) (reconcile.Draft, error) {
	d, err := k.Kernel.Create(l)
	return lateDraft{d, func() { k.Add(linkspec.Link{Kind: linkspec.Tap, Name: l.Name, Alias: new("somebody's")}) }}, err
}

type lateDraft struct {
	reconcile.Draft
	gone func()
}

func (d lateDraft) Discard() error {
	err := d.Draft.Discard()
	d.gone()
	return err
}

// A rollback does not take what somebody else made under the name meanwhile.
func TestUndoLeavesANamesake(t *testing.T) {
	k := namesake{fake.New()}
	s := tapState(vm1)
	s.Links[0].MTU = new(1) // which the kernel refuses
	if _, err := reconcile.Apply(t.Context(), k, s); err == nil {
		t.Fatal("a tap with an MTU of 1")
	}
	l, err := k.Link(s.Links[0].Name)
	if err != nil || l.Alias == nil || *l.Alias != "somebody's" {
		t.Errorf("there is %v, %v", l, err)
	}
}
