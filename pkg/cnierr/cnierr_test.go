package cnierr

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestFind(t *testing.T) {
	ours := New(Config, "do this", "key %q is wrong: %w", "mtu", fs.ErrNotExist)
	for _, c := range []struct {
		name    string
		err     error
		code    Code
		msg     string
		details string
	}{
		{"ours", ours, Config, `key "mtu" is wrong: file does not exist`, "do this"},
		{"wrapped", fmt.Errorf("apply: %w", ours), Config, `apply: key "mtu" is wrong: file does not exist`, "do this"},
		{"somebody's", errors.New("no"), Kernel, "no", "fallback"},
		{"joined", errors.Join(errors.New("first"), ours), Config, `first; key "mtu" is wrong: file does not exist`, "do this"},
		{"no details", New(IO, "", "x"), IO, "x", "fallback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Find(c.err, Kernel, "fallback")
			if got.Code != c.code || got.Msg != c.msg || got.Details != c.details {
				t.Errorf("got %d %q %q", got.Code, got.Msg, got.Details)
			}
		})
	}
	if !errors.Is(ours, fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
}
