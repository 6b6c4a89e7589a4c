package server

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchLen is how many packets one system call takes. Of more, a flood would gain
// little, and each bridge would need more memory: it has eight batches of 11 kB.
const batchLen = 8

// batch is packets as recvmmsg(2) and sendmmsg(2) take them. An answer is written over
// its query, and goes back with the address and the packet information that the query
// came with: what was its destination (IP_PKTINFO, IPV6_PKTINFO) is then the source.
type batch struct {
	conn    syscall.RawConn
	headers [batchLen]mmsghdr
	packets [batchLen]packet
	replies [batchLen]mmsghdr

	first, last int // of the replies to send
	done        int // packets of the last call
	errno       syscall.Errno
	read, write func(fd uintptr) bool // made once: a closure for each call would be garbage
}

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// packet is the memory of one. The message has one byte more than the longest that is
// answered, so that a longer one is seen.
type packet struct {
	envelope
	iov unix.Iovec
	msg [maxPayload + 1]byte
}

// envelope is where a packet came from and went to, of which sendmsg(2) makes where
// the answer goes to and comes from.
type envelope struct {
	name    unix.RawSockaddrInet6 // or RawSockaddrInet4, which is shorter
	control [64]byte              // room for one packet information
}

func newBatch(conn syscall.RawConn) *batch {
	b := &batch{conn: conn}
	b.read, b.write = b.recvmmsg, b.sendmmsg
	for i := range b.headers {
		p, h := &b.packets[i], &b.headers[i].header
		p.iov.Base = &p.msg[0]
		h.Iov, h.Name, h.Control = &p.iov, (*byte)(unsafe.Pointer(&p.name)), &p.control[0]
		h.SetIovlen(1)
	}
	return b
}

// receive waits for packets, and returns how many have come.
func (b *batch) receive() (int, error) {
	for i := range b.headers {
		p, h := &b.packets[i], &b.headers[i].header
		p.iov.SetLen(len(p.msg))
		h.Namelen = uint32(unsafe.Sizeof(p.name))
		h.SetControllen(len(p.control))
		h.Flags = 0
	}
	err := b.conn.Read(b.read)
	if err == nil && b.errno != 0 {
		err = b.errno
	}
	return b.done, err
}

func (b *batch) recvmmsg(fd uintptr) (over bool) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers[0])), batchLen, unix.MSG_DONTWAIT, 0, 0)
	b.done, b.errno = int(n), errno
	return errno != unix.EAGAIN
}

// message is the i-th packet that came; nil when it is longer than any query. Its
// capacity is what an answer may have.
func (b *batch) message(i int) []byte {
	n := int(b.headers[i].length)
	if n > maxPayload {
		return nil
	}
	return b.packets[i].msg[:n:maxPayload]
}

// source is where the i-th packet came from.
func (b *batch) source(i int) netip.Addr {
	name := &b.packets[i].name
	if name.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	}
	return netip.AddrFrom16(name.Addr)
}

// reply makes the i-th packet's answer the n-th to send.
func (b *batch) reply(n, i, size int) {
	b.packets[i].iov.SetLen(size)
	b.replies[n].header = b.headers[i].header
}

// send sends the first n answers. One that cannot be sent is lost, as packets are; the
// socket's own end is seen by receive.
func (b *batch) send(n int) {
	for b.first, b.last = 0, n; b.first < b.last; {
		if b.conn.Write(b.write) != nil {
			return
		}
		if b.errno != 0 {
			b.done = 1 // the first of them could not be sent: go on behind it
		}
		b.first += b.done
	}
}

func (b *batch) sendmmsg(fd uintptr) (over bool) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.replies[b.first])), uintptr(b.last-b.first), unix.MSG_DONTWAIT, 0, 0)
	b.done, b.errno = int(n), errno
	return true
}

// later returns what sends the i-th packet's answer when the batch has gone on.
func (b *batch) later(i int) func([]byte) {
	e := b.packets[i].envelope
	h := unix.Msghdr{Namelen: b.headers[i].header.Namelen, Controllen: b.headers[i].header.Controllen}
	return func(msg []byte) {
		if len(msg) == 0 {
			return
		}
		iov := unix.Iovec{Base: &msg[0]}
		iov.SetLen(len(msg))
		h.Name, h.Control, h.Iov = (*byte)(unsafe.Pointer(&e.name)), &e.control[0], &iov
		h.SetIovlen(1)
		_ = b.conn.Write(func(fd uintptr) bool {
			_, _, _ = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT)
			return true
		})
	}
}
