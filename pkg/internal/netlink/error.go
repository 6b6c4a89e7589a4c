package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Error is the kernel's refusal of one request. It is its number to errors.Is:
// errors.Is(err, unix.EEXIST).
type Error struct {
	Index int // of the request
	Errno unix.Errno
	Text  string // the kernel's own words (NLMSGERR_ATTR_MSG), if any
}

func (e *Error) Error() string {
	if e.Text != "" {
		return e.Errno.Error() + ": " + e.Text
	}
	return e.Errno.Error()
}

// Unwrap returns the number.
func (e *Error) Unwrap() error { return e.Errno }

// refusals are those of several requests.
type refusals []*Error

// told is how many refusals an error message tells; the others are counted.
const told = 10

func (r refusals) Error() string {
	var all []string
	for _, e := range r[:min(told, len(r))] {
		all = append(all, fmt.Sprintf("request %d: %v", e.Index+1, e))
	}
	if len(r) > told {
		all = append(all, fmt.Sprintf("and %d more", len(r)-told))
	}
	return strings.Join(all, "; ")
}

func (r refusals) Unwrap() []error {
	all := make([]error, len(r))
	for i, e := range r {
		all[i] = e
	}
	return all
}

// err is nil for none, and a single refusal is itself.
func (r refusals) err() error {
	switch len(r) {
	case 0:
		return nil
	case 1:
		return r[0]
	}
	return r
}

// Refusals returns what the kernel refused, in the order of the requests; nil for an
// error of another kind.
func Refusals(err error) []*Error {
	var all refusals
	if errors.As(err, &all) {
		return all
	}
	var one *Error
	if errors.As(err, &one) {
		return []*Error{one}
	}
	return nil
}

// Attributes and flags of a struct nlmsgerr, linux/netlink.h.
const (
	errorText = 1     // NLMSGERR_ATTR_MSG
	capped    = 0x100 // NLM_F_CAPPED: the refused request is not repeated
	ackTLVs   = 0x200 // NLM_F_ACK_TLVS
)

// parseError reads an NLMSG_ERROR, or the end of a list (NLMSG_DONE); nil for errno 0,
// which acknowledges, and for the end of a list without a number.
func parseError(m Message) *Error {
	if len(m.Body) < 4 {
		if m.Kind == unix.NLMSG_DONE {
			return nil
		}
		return &Error{Errno: unix.EBADMSG}
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.Body)))
	if errno == 0 {
		return nil
	}
	e := &Error{Errno: errno}
	if m.Flags&ackTLVs != 0 {
		e.Text = Text(Find(extended(m), errorText))
	}
	return e
}

// extended is what follows the number, and, in an NLMSG_ERROR, the refused request: its
// header at least.
func extended(m Message) []byte {
	at := 4
	if m.Kind == unix.NLMSG_ERROR {
		at = unix.SizeofNlMsgerr
		if m.Flags&capped == 0 && len(m.Body) >= at {
			at = 4 + align(int(min(binary.NativeEndian.Uint32(m.Body[4:]), uint32(len(m.Body)))))
		}
	}
	return m.Body[min(at, len(m.Body)):]
}
