package linkspec

import "strings"

// Difference is one declared field that the kernel does not show.
type Difference struct {
	Link  string   // key of the link; name of the network, where masquerading is missing
	Field string   // name of the field, or "link" when there is no such link
	Want  []string // declared values that are amiss
	Got   []string // observed values, none where there is nothing
}

// String says where, what, and what it should be.
func (d Difference) String() string {
	if d.Field == masquerading {
		return "masquerading of network " + d.Link + " for " + strings.Join(d.Want, " ") + " is missing"
	}
	got := "none"
	if len(d.Got) > 0 {
		got = strings.Join(d.Got, " ")
	}
	if rest, ok := strings.CutPrefix(d.Field, "no "); ok {
		return d.Link + ": " + rest + " " + strings.Join(d.Want, " ") + " is there, expected none"
	}
	return d.Link + ": " + d.Field + " is " + got + ", expected " + strings.Join(d.Want, " ")
}

// Diff returns what sets an observed link apart from a declared one.
func Diff(want, got Link) []Difference {
	var diffs []Difference
	if want.Kind != "" && want.Kind != got.Kind {
		diffs = append(diffs, Difference{Link: want.Key(), Field: "kind", Want: []string{string(want.Kind)}, Got: []string{string(got.Kind)}})
	}
	for _, f := range fields {
		wanted, found := f.differs(&want, &got)
		if wanted != nil && (!f.optional || found != nil) {
			diffs = append(diffs, Difference{Link: want.Key(), Field: f.name, Want: wanted, Got: found})
		}
	}
	return diffs
}

// Absent is the difference between a declared link and none at all.
func Absent(want Link) Difference {
	article := "a "
	if want.Kind == IFB {
		article = "an "
	}
	return Difference{Link: want.Key(), Field: "link", Want: []string{article + want.Kind.String()}}
}

// Change returns a link that declares just the fields by which got differs
// from want, and whether there are any.
func Change(want, got Link) (change Link, differs bool) {
	for _, f := range fields {
		if wanted, _ := f.differs(&want, &got); wanted != nil {
			f.take(&change, &want)
			differs = true
		}
	}
	return change, differs
}

// Split returns a change as links that declare one field each, in an order in which
// they can be set.
func Split(change Link) []Link {
	var each []Link
	for _, f := range fields {
		if len(f.texts(&change)) > 0 {
			var one Link
			f.take(&one, &change)
			each = append(each, one)
		}
	}
	return each
}

// Undo returns a link that declares, for each field by which got differs from
// want, what it was in got: set after Change, it puts got back.
func Undo(want, got Link) Link {
	var undo Link
	for _, f := range fields {
		if wanted, _ := f.differs(&want, &got); wanted != nil {
			f.undo(&undo, &want, &got)
		}
	}
	return undo
}
