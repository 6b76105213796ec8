package verbs

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// note tells a person something: standard output belongs to the protocol.
func (c *call) note(format string, a ...any) {
	fmt.Fprintf(os.Stderr, c.Name+": "+format+"\n", a...)
}

// noteGuards tells what the guards of the declared ports stopped so far, and
// which ports have none. It returns what it told. A port that has one against its
// declaration is among the differences.
func (c *call) noteGuards(s linkspec.State, diffs []linkspec.Difference) (told []string) {
	for _, l := range s.Links {
		guarded := slices.ContainsFunc(diffs, func(d linkspec.Difference) bool { return d.Link == l.Key() && d.Field == "guard" })
		switch {
		case l.Guard == nil:
		case l.Guard.Off() && !guarded:
			c.note(`port %s has no guard ("mode": "off"): its guest may send what it likes`, l.Name)
		default:
			if text := c.noteDrops(l.Name); text != "" {
				told = append(told, text)
			}
		}
	}
	return told
}

// noteDrops tells what the guard of a port stopped, and returns that. It is only talk:
// what cannot be counted fails nothing.
func (c *call) noteDrops(port string) string {
	drops, err := c.k.GuardDrops(port)
	if err != nil || len(drops) == 0 {
		return ""
	}
	var sum uint64
	var words []string
	for _, reason := range slices.SortedFunc(maps.Keys(drops), func(a, b string) int { return cmp.Or(cmp.Compare(drops[b], drops[a]), cmp.Compare(a, b)) }) {
		sum += drops[reason]
		words = append(words, fmt.Sprintf("%s %d", reason, drops[reason]))
	}
	text := fmt.Sprintf("guard of %s dropped %d frames: %s", port, sum, strings.Join(words, ", "))
	c.note("%s", text)
	return text
}
