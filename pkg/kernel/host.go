package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// SameNetns tells whether the path leads to the network namespace of the
// calling thread. A path that leads to no network namespace is an error that is
// fs.ErrNotExist.
func SameNetns(path string) (bool, error) {
	own, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return false, fmt.Errorf("look at own network namespace: %w", err)
	}
	other, err := openNetns(path)
	if err != nil {
		return false, err
	}
	defer other.Close()
	stat, err := other.Stat()
	if err != nil {
		return false, badNetns(path, err)
	}
	return os.SameFile(own, stat), nil
}

// LookupUser returns the uid of a user of the host (/etc/passwd).
func LookupUser(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, unknownName("user", "/etc/passwd", name, err)
	}
	return parseID(u.Uid)
}

// LookupGroup returns the gid of a group of the host (/etc/group).
func LookupGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, unknownName("group", "/etc/group", name, err)
	}
	return parseID(g.Gid)
}

func unknownName(what, file, name string, err error) error {
	details := fmt.Sprintf("make the %s, or give its number: names are looked up in %s only, not in a directory service", what, file)
	var noUser user.UnknownUserError
	var noGroup user.UnknownGroupError
	if errors.As(err, &noUser) || errors.As(err, &noGroup) {
		return cnierr.New(cnierr.Config, details, "there is no %s %q on this host", what, name)
	}
	return cnierr.New(cnierr.Config, details, "look up %s %q: %w", what, name, err)
}

func parseID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse id: %w", err)
	}
	return uint32(id), nil
}
