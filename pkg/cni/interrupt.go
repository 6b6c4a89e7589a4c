package cni

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interruptible is a context that SIGTERM and SIGINT cancel. It listens for them
// only from the first call of Done on, that is, when something is about to wait: a
// lock that another plugin holds, another program. Until then they are ignored,
// since listening costs a twentieth of an ADD, and an ADD that does not wait is
// over sooner than whoever sent the signal can look.
type interruptible struct {
	context.Context
	cancel context.CancelCauseFunc
	listen sync.Once
}

var errInterrupted = errors.New("interrupted by a signal")

func newInterruptible(parent context.Context) context.Context {
	// Without SIGPIPE a runtime that is gone is an error of a write, and rolled back.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(parent)
	return &interruptible{Context: ctx, cancel: cancel}
}

// Done implements [context.Context].
func (i *interruptible) Done() <-chan struct{} {
	i.listen.Do(func() {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
		go func() {
			<-c
			i.cancel(errInterrupted)
		}()
	})
	return i.Context.Done()
}
