package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// program is what the commands share: the settings, and where they read and write.
type program struct {
	settings settings
	// open opens the store that the settings name; tests have their own.
	open func(*settings, *slog.Logger) (overlay.Store, error)
	// kubectl says that kubectl has started it, as its plugin.
	kubectl bool

	in       io.Reader // os.Stdin when nil
	out, err io.Writer // os.Stdout and os.Stderr when nil
	now      func() time.Time
}

func (p *program) setOutput(root *cobra.Command) {
	if p.in == nil {
		p.in = os.Stdin
	}
	if p.out == nil {
		p.out = os.Stdout
	}
	if p.err == nil {
		p.err = os.Stderr
	}
	if p.now == nil {
		p.now = time.Now
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
}

// withStore runs fn on the store that the settings name. The store's own log is
// dropped: what matters is in the errors.
func (p *program) withStore(fn func(overlay.Store) error) error {
	s, err := p.open(&p.settings, slog.New(slog.DiscardHandler))
	if err != nil {
		return usageError{err}
	}
	defer s.Close()
	return fn(s)
}

// storePatience is how long a person waits for a store that does not answer.
const storePatience = 10 * time.Second

// ask makes one call of the store, and says which one it is that does not answer.
func (p *program) ask(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	err := call(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s does not answer: %w", p.settings.storeName(), err)
	}
	return err
}

// withState runs fn on what the store holds.
func (p *program) withState(ctx context.Context, fn func(*overlay.State) error) error {
	return p.withStore(func(s overlay.Store) error {
		state, err := p.state(ctx, s)
		if err != nil {
			return err
		}
		return fn(state)
	})
}

// readState is what the store holds.
func (p *program) readState(ctx context.Context) (state *overlay.State, err error) {
	err = p.withState(ctx, func(s *overlay.State) error {
		state = s
		return nil
	})
	return state, err
}

// hostStore is where the records of this host are.
func (p *program) hostStore() *attach.Store { return attach.New(p.settings.stateDir, cni.Decode) }

func (p *program) state(ctx context.Context, s overlay.Store) (state *overlay.State, err error) {
	err = p.ask(ctx, func(ctx context.Context) error {
		if state, err = s.State(ctx); err != nil {
			err = fmt.Errorf("read %s: %w", p.settings.storeName(), err)
			if !p.settings.named {
				err = fmt.Errorf("%w (--etcd-endpoints says where the store is)", err)
			}
			return err
		}
		return nil
	})
	return state, err
}

// terminal tells whether a person reads or writes there.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks a person at the terminal. Without one, or without a y, the answer is
// no.
func (p *program) confirm(question string) bool {
	if !terminal(p.in) || !terminal(p.err) {
		return false
	}
	fmt.Fprintf(p.err, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(p.in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
