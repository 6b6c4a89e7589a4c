package netlink

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrInterrupted: a list changed every time that it was read. What the last reading has
// is of use for somebody who makes the kernel's state what it should be: to add what is
// there already, or to remove what is gone, harms nothing.
var ErrInterrupted = errors.New("the list changed while it was read")

// readings is how often a list is read that others change meanwhile.
const readings = 20

// List sends the question after a list (NLM_F_DUMP) and appends to a slice what parse
// makes of its messages; those that are not ok are left out. The kernel filters by what
// the question names (NETLINK_GET_STRICT_CHK, kernel 4.20); an older one lists more.
// [ErrInterrupted] comes with the last reading.
func List[T any](c *Conn, r *Request, into []T, parse func(m Message) (T, bool)) ([]T, error) {
	if !c.strict {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
		c.strict = true
	}
	before := len(into)
	var err error
	for range readings {
		into = into[:before]
		err = c.dump(r, func(m Message) {
			if t, ok := parse(m); ok {
				into = append(into, t)
			}
		})
		if !errors.Is(err, ErrInterrupted) {
			break
		}
	}
	return into, err
}

// dump reads a list once. The kernel writes the next part when one was read.
func (c *Conn) dump(r *Request, each func(Message)) (err error) {
	c.seq++
	c.out = r.Append(c.out[:0], c.seq, unix.NLM_F_DUMP)
	if err := c.write(); err != nil {
		return err
	}
	ended, interrupted := false, false
	defer func() {
		if !ended {
			c.drain()
		}
	}()
	for {
		var b []byte
		if b, err = c.receive(); err != nil {
			return err
		}
		for len(b) > 0 {
			var m Message
			if m, b, err = next(b); err != nil {
				return err
			}
			if m.Seq != c.seq {
				continue // of an exchange that an error cut short
			}
			interrupted = interrupted || m.Flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case m.Kind == unix.NLMSG_ERROR || m.Kind == unix.NLMSG_DONE:
				ended = true
				return endOfList(m, interrupted)
			case m.Kind >= unix.NLMSG_MIN_TYPE:
				each(m)
			}
		}
	}
}

// endOfList is the outcome of a list. nftables says EINTR for one that changed.
func endOfList(m Message, interrupted bool) error {
	e := parseError(m)
	switch {
	case e != nil && e.Errno == unix.EINTR:
		return fmt.Errorf("%w: %w", ErrInterrupted, e.Errno)
	case e != nil:
		return e
	case interrupted:
		return ErrInterrupted
	}
	return nil
}
