package cluster

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// ClocksShift is why [Process.ShiftClock] cannot work on this machine; nil where it can.
func ClocksShift() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("clocks of processes are shifted by code of amd64, and this is %s", runtime.GOARCH)
	}
	return nil
}

// ShiftClock has the process's time of day (CLOCK_REALTIME) jump, by so much from the true
// one, as a host's does whose administrator or NTP sets it; its monotonic clock goes on, as
// the kernel's does. Nobody else notices: what changes is the process's own copy of the
// code with which the kernel has programs read clocks (vdso(7)), which Go's runtime calls.
// A program that asks by a system call, or that the process starts, has the true time.
func (p *Process) ShiftClock(by time.Duration) error {
	seconds := int64(by / time.Second)
	if err := ClocksShift(); err != nil {
		return fmt.Errorf("shift the clock of %s: %w", p.name, err)
	}
	if seconds != int64(int32(seconds)) {
		return fmt.Errorf("shift the clock of %s by %v: more than 68 years", p.name, by)
	}
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall, of the clock in edi, to the timespec at rsi
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
		0x75, 0x07, // jne to the ret
		0x48, 0x81, 0x06, 0, 0, 0, 0, // add qword [rsi], seconds
		0xc3, // ret
	}
	binary.LittleEndian.PutUint32(code[14:], uint32(int32(seconds)))
	p.Pause()
	defer p.Resume()
	err := Until(patience, func() error { return p.patch("__vdso_clock_gettime", code) })
	if err != nil {
		return fmt.Errorf("shift the clock of %s (process %d): %w", p.name, p.Pid, err)
	}
	return nil
}

// patch replaces the beginning of a function of the vDSO, in which no thread may be.
func (p *Process) patch(function string, code []byte) error {
	start, end, err := p.vdso()
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.Pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	image := make([]byte, end-start)
	if _, err := mem.ReadAt(image, int64(start)); err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return err
	}
	for _, s := range symbols {
		if s.Name != function {
			continue
		}
		if s.Size < uint64(len(code)) {
			return fmt.Errorf("%s has %d bytes, which is too few", function, s.Size)
		}
		if err := p.outside(start, end); err != nil {
			return err
		}
		_, err := mem.WriteAt(code, int64(start+s.Value))
		return err
	}
	return fmt.Errorf("the vDSO has no %s", function)
}

// vdso is where the process has it.
func (p *Process) vdso() (start, end uint64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &start, &end)
			return start, end, err
		}
	}
	return 0, 0, errors.New("it has no vDSO")
}

// outside wants every thread stopped, and none in a range of code.
func (p *Process) outside(start, end uint64) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.Pid))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread + "/syscall") // proc(5): the program counter is the last
		if err != nil {
			return err
		}
		words := strings.Fields(string(text))
		if len(words) < 2 { // "running"
			return fmt.Errorf("%s has not stopped", filepath.Base(thread))
		}
		pc, err := strconv.ParseUint(strings.TrimPrefix(words[len(words)-1], "0x"), 16, 64)
		if err != nil {
			return err
		}
		if pc >= start && pc < end {
			p.Resume()
			p.Pause()
			return fmt.Errorf("%s is reading the clock", filepath.Base(thread))
		}
	}
	return nil
}
