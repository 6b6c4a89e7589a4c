// Package filewatch tells of files that changed, for processes that stay.
package filewatch

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watch calls changed some time (settle) after one of the files was written, replaced or
// removed, until the context ends; many changes within that time are one call. It
// watches their folders, since such files are replaced rather than written, and for
// links those of what they lead to. A folder that is not there is watched when it comes
// and something else has changed.
func Watch(ctx context.Context, settle time.Duration, changed func(), files ...string) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", strings.Join(files, ", "), err)
	}
	defer w.Close()
	for {
		names := watch(w, files)
		if err := next(ctx, w, names); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch %s: %w", strings.Join(files, ", "), err)
		}
		if !rest(ctx, w, settle) {
			return nil
		}
		changed()
	}
}

// watch adds the folders to the watcher, and returns the names in them that matter. It
// is called after every change: links change, too.
func watch(w *fsnotify.Watcher, files []string) (names []string) {
	for _, f := range files {
		names = append(names, filepath.Base(f))
		_ = w.Add(filepath.Dir(f)) // one that is not there has nothing to tell
		if target, err := filepath.EvalSymlinks(f); err == nil && target != f {
			names = append(names, filepath.Base(target))
			_ = w.Add(filepath.Dir(target))
		}
	}
	return names
}

// next waits for a change of a file of one of the names.
func next(ctx context.Context, w *fsnotify.Watcher, names []string) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-w.Events:
			if e.Op != fsnotify.Chmod && slices.Contains(names, filepath.Base(e.Name)) {
				return nil
			}
		case err := <-w.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				return nil
			}
			return err
		}
	}
}

// rest lets some time pass, and what happens meanwhile; not ok when the context ends.
func rest(ctx context.Context, w *fsnotify.Watcher, settle time.Duration) bool {
	for end := time.After(settle); ; {
		select {
		case <-ctx.Done():
			return false
		case <-w.Events:
		case <-w.Errors: // lost events are of now, too; another error comes again
		case <-end:
			return true
		}
	}
}
