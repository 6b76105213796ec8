package tcbpf

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// placesIn are those that package ebpf finds, in bytes.
func placesIn(s *btf.Struct) map[string]uint32 {
	places := map[string]uint32{}
	var walk func(members []btf.Member, begin uint32)
	walk = func(members []btf.Member, begin uint32) {
		for _, m := range members {
			at := begin + m.Offset.Bytes()
			switch inner := m.Type.(type) {
			case *btf.Struct:
				if m.Name == "" {
					walk(inner.Members, at)
				}
			case *btf.Union:
				if m.Name == "" {
					walk(inner.Members, at)
				}
			}
			if _, twice := places[m.Name]; m.Name != "" && m.BitfieldSize == 0 && !twice {
				places[m.Name] = at
			}
		}
	}
	walk(s.Members, 0)
	return places
}

// Members finds what package ebpf does, of small and large structures.
func TestMembers(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	for _, structure := range []string{"sk_buff", "list_head", "net_device", "bpf_prog", "task_struct"} {
		var s *btf.Struct
		if err := spec.TypeByName(structure, &s); err != nil {
			t.Fatal(err)
		}
		places := placesIn(s)
		var names []string
		for name := range places {
			names = append(names, name)
		}
		at, err := Members(structure, names...)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) < 2 {
			t.Errorf("struct %s has %d members", structure, len(names))
		}
		for i, name := range names {
			if at[i] != places[name] {
				t.Errorf("%s.%s is at %d, want %d", structure, name, at[i], places[name])
			}
		}
	}
}

func TestMembersThatAreNotThere(t *testing.T) {
	raw, err := os.ReadFile(kernelTypes)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(raw)
	other[0]++
	for _, c := range []struct {
		name, structure, member string
		types                   []byte
		want                    error
		says                    string
	}{
		{"no such member", "sk_buff", "sk_puff", raw, errTypes, "sk_buff has no sk_puff"},
		{"no such structure", "sk_puff", "next", raw, io.ErrUnexpectedEOF, "find struct sk_puff"},
		{"a bit field", "sk_buff", "ip_summed", raw, errTypes, "has no ip_summed"},
		{"cut short", "task_struct", "pid", raw[:len(raw)/100], io.EOF, "EOF"},
		{"nothing", "sk_buff", "next", nil, io.EOF, "EOF"},
		{"something else", "sk_buff", "next", other, errTypes, ""},
	} {
		at, err := membersIn(bytes.NewReader(c.types), c.structure, []string{c.member})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", c.name, at, err)
		}
	}
}

func BenchmarkMembers(b *testing.B) {
	for b.Loop() {
		if _, err := Members("sk_buff", "csum_start", "csum_offset", "mac_header"); err != nil {
			b.Fatal(err)
		}
	}
}
