package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// deletedPath is the list of what was deleted while the state file was damaged: a key's
// hash in each line.
func (s *Store) deletedPath() string { return s.path() + ".deleted" }

// DelDamaged is [Store.Del] where the state file is damaged: it has del delete what can be
// found without a record, and notes it, so that [Store.Rebuild] does not bring it back.
// It is [Store.Del] again where the file has been rebuilt meanwhile.
func (s *Store) DelDamaged(ctx context.Context, k Key, del func() error) error {
	unlock, err := s.lockKey(ctx, k) // which keeps a rebuild waiting
	if err != nil {
		return err
	}
	defer unlock()
	// All that a Del reads and writes may be what is damaged, not the record alone.
	if err := s.delLocked(ctx, k, false); !errors.Is(err, ErrDamaged) {
		return err
	}
	if err := del(); err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	f, err := os.OpenFile(s.deletedPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("note what was deleted: %w", err)
	}
	_, err = f.WriteString(k.Hash() + "\n")
	return errors.Join(err, f.Close())
}

// deleted reads the list.
func (s *Store) deleted() (map[string]bool, error) {
	data, err := os.ReadFile(s.deletedPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		all[strings.TrimSpace(line)] = true
	}
	return all, nil
}
