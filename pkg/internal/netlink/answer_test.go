package netlink

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel never does some things that it may do. Here its end of the socket is the
// test's: what it is to answer is there before it is asked.
func answering(t *testing.T, datagrams ...[]byte) *Conn {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ends[0]); unix.Close(ends[1]) })
	for _, d := range datagrams {
		if err := unix.Send(ends[1], d, 0); err != nil {
			t.Fatal(err)
		}
	}
	return &Conn{fd: ends[0]}
}

// answer is a datagram of one message.
func answer(kind, flags uint16, seq uint32, body ...byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN)
	binary.NativeEndian.PutUint32(b, uint32(len(b)+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return append(b, body...)
}

func number(errno int32) []byte {
	return append(binary.NativeEndian.AppendUint32(nil, uint32(-errno)), make([]byte, unix.NLMSG_HDRLEN)...)
}

const multi, interrupted = unix.NLM_F_MULTI, unix.NLM_F_MULTI | unix.NLM_F_DUMP_INTR

func listOf(c *Conn) ([]byte, error) {
	return List(c, NewQuestion(unix.RTM_GETLINK, nil), nil, func(m Message) (byte, bool) { return m.Body[0], true })
}

func TestInterruptedList(t *testing.T) {
	c := answering(t,
		answer(unix.RTM_NEWLINK, multi, 1, 1), answer(unix.RTM_NEWLINK, interrupted, 1, 2), answer(unix.NLMSG_DONE, multi, 1, 0, 0, 0, 0),
		answer(unix.RTM_NEWLINK, multi, 2, 3), answer(unix.NLMSG_DONE, interrupted, 2, 0, 0, 0, 0),
		answer(unix.RTM_NEWLINK, multi, 3, 4), answer(unix.NLMSG_DONE, multi, 3, number(int32(unix.EINTR))[:4]...),
		answer(unix.RTM_NEWLINK, multi, 4, 5), answer(unix.RTM_NEWLINK, multi, 4, 6), answer(unix.NLMSG_DONE, multi, 4))
	if all, err := listOf(c); err != nil || string(all) != "\x05\x06" {
		t.Errorf("a list that was interrupted: %v, %v", all, err)
	}
	var always [][]byte
	for seq := range uint32(readings) {
		always = append(always, answer(unix.RTM_NEWLINK, interrupted, seq+1, byte(seq)), answer(unix.NLMSG_DONE, interrupted, seq+1, 0, 0, 0, 0))
	}
	all, err := listOf(answering(t, always...))
	if !errors.Is(err, ErrInterrupted) || len(all) != 1 || all[0] != readings-1 {
		t.Errorf("a list that always changes: %v, %v", all, err)
	}
}

func TestRefusedList(t *testing.T) {
	c := answering(t, answer(unix.RTM_NEWLINK, multi, 1, 1), answer(unix.NLMSG_DONE, multi, 1, number(int32(unix.ENOBUFS))[:4]...))
	if _, err := listOf(c); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("the end of a list: %v", err)
	}
	if _, err := listOf(answering(t, answer(unix.NLMSG_ERROR, 0, 1, number(int32(unix.EPERM))...))); !errors.Is(err, unix.EPERM) {
		t.Errorf("a list that is refused: %v", err)
	}
}

func TestBrokenAnswers(t *testing.T) {
	short := answer(unix.NLMSG_ERROR, 0, 1, number(0)...)
	short[0]++
	for what, datagrams := range map[string][][]byte{
		"none": {}, "cut off": {short}, "less than a header": {{1, 2, 3}}, "empty": {answer(unix.NLMSG_ERROR, 0, 1)},
		"another's alone": {answer(unix.NLMSG_ERROR, 0, 7, number(0)...)},
	} {
		if err := answering(t, datagrams...).Do([]*Request{NewRequest(unix.RTM_NEWLINK, 0, nil)}, nil); err == nil {
			t.Errorf("%s: no error", what)
		}
		if _, err := listOf(answering(t, datagrams...)); err == nil {
			t.Errorf("%s: no error of a list", what)
		}
	}
	big := append(answer(unix.NLMSG_ERROR, 0, 1, number(0)...), make([]byte, recvSize)...)
	if err := answering(t, big).Do([]*Request{NewRequest(unix.RTM_NEWLINK, 0, nil)}, nil); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("an answer that is too long: %v", err)
	}
	c := answering(t, answer(unix.NLMSG_ERROR, 0, 0, number(int32(unix.EPERM))...), answer(unix.NLMSG_NOOP, 0, 1), answer(unix.NLMSG_ERROR, 0, 1, number(0)...))
	if err := c.Do([]*Request{NewRequest(unix.RTM_NEWLINK, 0, nil)}, nil); err != nil {
		t.Errorf("what belongs to an earlier exchange: %v", err)
	}
}
