package config

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// docs/configuration.md and the tables of this package list the same things.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	own := func(p plugin) []string { return p.keys[len(standardKeys):] }
	codes := []cnierr.Code{
		cnierr.Version, cnierr.UnsupportedField, cnierr.UnknownContainer, cnierr.Environment, cnierr.IO, cnierr.Decoding, cnierr.Config,
		cnierr.TryAgain, cnierr.NotAvailable, cnierr.Limited, cnierr.Kernel, cnierr.Exists, cnierr.Mismatch, cnierr.Delegate,
	}
	var numbers []string
	for _, c := range codes {
		numbers = append(numbers, strconv.FormatUint(uint64(c), 10))
	}
	for heading, want := range map[string][]string{
		"Keys of both plugins":  standardKeys,
		"microvm-tap":           own(tapPlugin),
		"microvm-bridge":        own(bridgePlugin),
		"Keys that are refused": bridgePlugin.refused,
		"CNI_ARGS":              slices.Concat(ownArgs, delegateArgs),
		"Capabilities":          {"mac", "ips", "ipRanges", "bandwidth"},
		"Error codes":           numbers,
	} {
		got := rows(string(text), heading)
		for _, key := range want {
			if !slices.Contains(got, key) {
				t.Errorf("section %q does not list %s", heading, key)
			}
		}
		for _, key := range got {
			if !slices.Contains(want, key) {
				t.Errorf("section %q lists %s, which is not known", heading, key)
			}
		}
	}
}

var row = regexp.MustCompile("(?m)^\\| `?([A-Za-z0-9_]+)`? \\|")

// rows are the first cells of the table below a heading, without its head.
func rows(text, heading string) []string {
	_, section, _ := strings.Cut(text, "# "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	var cells []string
	for _, match := range row.FindAllStringSubmatch(section, -1) {
		cells = append(cells, match[1])
	}
	if len(cells) == 0 {
		return nil
	}
	return cells[1:]
}
