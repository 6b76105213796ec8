package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// object is a JSON object. Its keys are exact: encoding/json with a struct
// would take "BRIDGE" for "bridge".
type object map[string]json.RawMessage

const objectDetails = "the configuration must be one JSON object, as the runtime sends it on stdin"

// parseObject reads the configuration.
func parseObject(data []byte) (object, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, cnierr.New(cnierr.Decoding, objectDetails, "configuration is empty")
	}
	var obj object
	if err := json.Unmarshal(data, &obj); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, cnierr.New(cnierr.Decoding, objectDetails, "configuration is not JSON: %w, at byte %d", err, syntax.Offset)
		}
		return nil, cnierr.New(cnierr.Decoding, objectDetails, "configuration is %s, not a JSON object", kindOf(data))
	}
	if obj == nil { // null
		return nil, cnierr.New(cnierr.Decoding, objectDetails, "configuration is null, not a JSON object")
	}
	return obj, nil
}

// keysOf lists the keys of an object that parseObject took, in the order in
// which they were written. A key that is there twice is an error: encoding/json
// would silently take the last.
func keysOf(data []byte) ([]string, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	_, _ = dec.Token() // the opening brace
	var keys []string
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err == nil {
			var value json.RawMessage
			err = dec.Decode(&value)
		}
		if err != nil { // not possible: the object was parsed before
			return nil, cnierr.New(cnierr.Decoding, objectDetails, "configuration is not JSON: %w", err)
		}
		key, _ := token.(string)
		if seen[key] {
			return nil, cnierr.New(cnierr.Decoding, "remove one of the two: it is not clear which is meant", "key %s is there twice", quote(key))
		}
		seen[key] = true
		keys = append(keys, key)
	}
	return keys, nil
}

// reader takes typed values out of an object. It keeps the first error and
// returns zero values from then on, so that its user checks err once, at the
// end. A null counts as not given.
type reader struct {
	path string // of the object in the configuration: "args.cni", "" at the top
	vals object
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil && err != nil {
		r.err = err
	}
}

// at is the full name of a key.
func (r *reader) at(key string) string {
	if r.path == "" {
		return key
	}
	return r.path + "." + key
}

func (r *reader) has(key string) bool {
	raw, ok := r.vals[key]
	return ok && !isNull(raw)
}

// decode reads one value. Want and advice are for the reader of the error.
func (r *reader) decode(key string, v any, want, advice string) bool {
	if r.err != nil || !r.has(key) {
		return false
	}
	if err := json.Unmarshal(r.vals[key], v); err != nil {
		r.fail(wrongType(r.at(key), want, r.vals[key], advice))
		return false
	}
	return true
}

func (r *reader) text(key string) (s string) {
	r.decode(key, &s, "a string", "write it in double quotes")
	return s
}

func (r *reader) flag(key string) (b bool) {
	r.decode(key, &b, "true or false", "write true or false, without quotes")
	return b
}

func (r *reader) texts(key string) (list []string) {
	const want, advice = "a list of strings", `write it as ["...", "..."]`
	var items []json.RawMessage
	r.decode(key, &items, want, advice)
	for i, raw := range items {
		var text string
		if isNull(raw) || json.Unmarshal(raw, &text) != nil {
			r.fail(wrongType(r.at(key)+"["+strconv.Itoa(i)+"]", "a string", raw, advice))
			return nil
		}
		list = append(list, text)
	}
	return list
}

// within says of an error of keysOf where the object is.
func (r *reader) within(err error) error {
	if err == nil {
		return nil
	}
	e := cnierr.Find(err, cnierr.Decoding, objectDetails)
	return cnierr.New(e.Code, e.Details, "%s: %w", r.path, err)
}

// number reads a whole number from least to most; 0 if there is none.
func (r *reader) number(key, unit string, least, most int64) int64 {
	var n json.Number
	if !r.decode(key, &n, "a number", "write a whole number, without quotes") {
		return 0
	}
	if kindOf(r.vals[key]) == "a string" { // json.Number takes a quoted number too
		r.fail(wrongType(r.at(key), "a number", r.vals[key], "write a whole number, without quotes"))
		return 0
	}
	if strings.ContainsAny(n.String(), ".eE") {
		r.fail(cnierr.New(cnierr.Decoding, "write a whole number, without fraction or exponent",
			"%s: want a whole number, got %s", r.at(key), cut(n.String())))
		return 0
	}
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || v < least || v > most {
		r.fail(cnierr.New(cnierr.Config, "give a number of "+unit+" from "+strconv.FormatInt(least, 10)+" to "+strconv.FormatInt(most, 10),
			"%s: %s is out of range", r.at(key), cut(n.String())))
		return 0
	}
	return v
}

// object reads an object inside of the object; an empty one if there is none.
func (r *reader) object(key string) *reader {
	sub := &reader{path: r.at(key)}
	if r.decode(key, &sub.vals, "an object", `write it as {"...": ...}`) {
		_, err := keysOf(r.vals[key])
		r.fail(sub.within(err))
	}
	return sub
}

// objects reads a list of objects.
func (r *reader) objects(key string) []*reader {
	var list []json.RawMessage
	r.decode(key, &list, "a list of objects", `write it as [{"...": ...}]`)
	subs := make([]*reader, 0, len(list))
	for i, raw := range list {
		sub := &reader{path: r.at(key) + "[" + strconv.Itoa(i) + "]"}
		if err := json.Unmarshal(raw, &sub.vals); err != nil || sub.vals == nil {
			r.fail(wrongType(sub.path, "an object", raw, `write it as {"...": ...}`))
		} else {
			_, err := keysOf(raw)
			r.fail(sub.within(err))
		}
		subs = append(subs, sub)
	}
	return subs
}

func wrongType(path, want string, got json.RawMessage, advice string) error {
	return cnierr.New(cnierr.Decoding, advice, "%s: want %s, got %s", path, want, kindOf(got))
}

// kindOf names the type of a JSON value, in the words of an error message.
func kindOf(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// maxShown is how much of a user's value an error repeats, in bytes: enough to
// find it, too little to spill what it may hold.
const maxShown = 64

// show is a JSON value on one line, cut short.
func show(raw json.RawMessage) string {
	var b bytes.Buffer
	_ = json.Compact(&b, raw) // it was parsed before
	return plain(b.String())
}

// plain is a text on one line, cut short.
func plain(s string) string {
	return cut(strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, s))
}

// quote is a user's string in quotes on one line, cut short.
func quote(s string) string { return strconv.Quote(cut(s)) }

func cut(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "..."
}
