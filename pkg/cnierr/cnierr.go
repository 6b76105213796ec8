// Package cnierr defines the errors that reach the user of a plugin: a CNI
// error code, one line that says what is wrong, and what to do about it.
//
// Every layer may return one. The verbs print the outermost that they find in
// an error chain; everything that wraps it becomes the beginning of the line.
package cnierr

import (
	"errors"
	"fmt"
	"strings"
)

// Code is a CNI error code. Codes below 100 belong to the specification
// (SPEC.md, section "Error"), codes from 100 up are ours.
type Code uint

// The codes of the specification that the plugins use, and our own.
const (
	Version          Code = 1  // the cniVersion is not supported, or does not allow the operation
	UnsupportedField Code = 2  // a key that is not ours; the message holds key and value
	UnknownContainer Code = 3  // the attachment does not exist (any more)
	Environment      Code = 4  // a CNI_* variable is missing or invalid
	IO               Code = 5  // a file, device or pipe cannot be read or written
	Decoding         Code = 6  // JSON that is not JSON, or of the wrong type
	Config           Code = 7  // a value that makes no sense here
	TryAgain         Code = 11 // a passing shortage: the same call may succeed later
	NotAvailable     Code = 50 // STATUS: an ADD would fail now
	Limited          Code = 51 // STATUS: an ADD would fail now, and guests that run may have lost connectivity

	Kernel   Code = 100 // the kernel refused an operation
	Exists   Code = 101 // the attachment, or a device of that name, is already there
	Mismatch Code = 102 // CHECK: the host is no longer as ADD promised
	Delegate Code = 103 // the IPAM plugin failed, or answered something that cannot be used
)

// Error is an error made for a person: Msg says in one line what is wrong,
// Details says what to do about it.
type Error struct {
	Code    Code
	Msg     string
	Details string
	Err     error // the cause, if there is one; it is not part of Msg
}

// New returns an Error. The message must fit on one line.
func New(code Code, details, format string, a ...any) *Error {
	err := fmt.Errorf(format, a...)
	return &Error{Code: code, Msg: err.Error(), Details: details, Err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Find returns what to print for err: the code and details of the first Error
// in its chain, and the whole chain as the message, folded into one line. An
// error that carries no code gets code fallback and the advice fallbackDetails.
func Find(err error, fallback Code, fallbackDetails string) *Error {
	found := &Error{Code: fallback, Msg: oneLine(err.Error()), Details: fallbackDetails, Err: err}
	var e *Error
	if errors.As(err, &e) {
		found.Code = e.Code
		if e.Details != "" {
			found.Details = e.Details
		}
	}
	return found
}

// oneLine folds the lines of a joined error into one.
func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines, "; ")
}
