package config

import (
	"encoding/json"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// checkName refuses what the kernel refuses as the name of a device, what it
// takes for something else ("tap%d" is a pattern, "all" is a sysctl directory),
// and what would garble a terminal. A dot inside of a name is legal: parameters
// of a device are found by path, never by a dotted key. Source says in the
// error where the name comes from.
func checkName(code cnierr.Code, source, name string) error {
	refuse := func(why string) error {
		return cnierr.New(code, "use a name of 1 to 15 bytes without white space, '/', ':' and '%', other than \".\", \"..\", \"all\" and \"default\"",
			"%s %s %s", source, quote(name), why)
	}
	switch {
	case name == "":
		return refuse("is empty")
	case !utf8.ValidString(name) || strings.ContainsRune(name, utf8.RuneError):
		return refuse("is not UTF-8")
	case len(name) > attachment.MaxName:
		return refuse("is " + strconv.Itoa(len(name)) + " bytes long, the kernel allows 15")
	case slices.Contains([]string{".", "..", "all", "default"}, name):
		return refuse("is reserved by the kernel")
	}
	for _, c := range name {
		switch {
		case strings.ContainsRune("/:%", c):
			return refuse("contains '" + string(c) + "'")
		case unicode.IsSpace(c):
			return refuse("contains white space")
		case !unicode.IsPrint(c):
			return refuse("contains a character that does not print")
		}
	}
	return nil
}

// parseMAC reads the guest's MAC address in any of the usual notations; nil if
// the text is empty, which means not given, as in the upstream plugins.
func parseMAC(code cnierr.Code, source, text string) (net.HardwareAddr, error) {
	if text == "" {
		return nil, nil
	}
	const advice = "give 6 bytes such as 02:00:00:12:34:56, or, for a NIC, nothing to have one derived"
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return nil, cnierr.New(code, advice, "%s: %s is not a MAC address of 6 bytes", source, quote(text))
	}
	switch {
	case !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }):
		return nil, cnierr.New(code, advice, "%s: %s is no address at all", source, mac)
	case mac[0]&1 != 0:
		return nil, cnierr.New(code, "the last bit of the first byte must be 0; "+advice,
			"%s: %s is a multicast address, a NIC needs a unicast one", source, mac)
	case mac[0] == 0xfe:
		return nil, cnierr.New(code, "the tap itself gets fe: and the guest's last five bytes, and the two must differ: begin with another byte, such as 02",
			"%s: %s begins with fe, as the tap's own address does", source, mac)
	}
	return mac, nil
}

// ID is a user or a group as written: a number or a name. Names are looked up
// on the host, by the caller.
type ID struct {
	Name   string // empty: Number counts
	Number uint32
}

// parseID reads a user or group. A text that is all digits is a number.
func parseID(code cnierr.Code, source, text string) (*ID, error) {
	refuse := func(why string) error {
		return cnierr.New(code, "give a name, or a number from 0 to 4294967294", "%s %s %s", source, quote(text), why)
	}
	if text == "" {
		return nil, refuse("is empty")
	}
	if strings.Trim(text, "0123456789") == "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == math.MaxUint32 { // which is how the kernel writes "nobody"
			return nil, refuse("is out of range")
		}
		return &ID{Number: uint32(n)}, nil
	}
	bad := func(c rune) bool {
		return c == ':' || c == '/' || c == utf8.RuneError || !unicode.IsPrint(c) || unicode.IsSpace(c)
	}
	if text[0] == '-' || text[0] == '+' || strings.ContainsFunc(text, bad) {
		return nil, refuse("is neither a name nor a number")
	}
	return &ID{Name: text}, nil
}

// id reads a user or group from JSON: a number or a string; nil if not given.
func (r *reader) id(key string) *ID {
	if r.err != nil || !r.has(key) {
		return nil
	}
	const advice = "give a name in quotes, or a number from 0 to 4294967294"
	raw := r.vals[key]
	text := string(raw)
	switch kindOf(raw) {
	case "a string":
		if json.Unmarshal(raw, &text) != nil {
			text = ""
		}
	case "a number":
		if strings.ContainsAny(text, ".eE") {
			r.fail(cnierr.New(cnierr.Decoding, advice, "%s: want a whole number, got %s", r.at(key), cut(text)))
			return nil
		}
		if text[0] == '-' {
			r.fail(cnierr.New(cnierr.Config, advice, "%s: %s is out of range", r.at(key), cut(text)))
			return nil
		}
	default:
		r.fail(wrongType(r.at(key), "a name or a number", raw, advice))
		return nil
	}
	id, err := parseID(cnierr.Config, r.at(key), text)
	r.fail(err)
	return id
}
