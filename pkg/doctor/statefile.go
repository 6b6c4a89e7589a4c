package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/rebuild"
)

// stateFile is what is wrong with the file of the records.
type stateFile struct {
	Dir        string
	Damage     error    // nil: it is whole, or there is none
	Missing    bool     // there is none
	Unrecorded []string // interfaces that lead to containers which live, and that no record has
	Unreadable []string // records that this version cannot read
}

// bad tells whether the records have to be rebuilt.
func (s *stateFile) bad() bool {
	return s.Damage != nil || len(s.Unrecorded) > 0 || len(s.Unreadable) > 0
}

func (c *Config) lookAtStateFile(ctx context.Context, h *hostFacts) stateFile {
	s := stateFile{Dir: c.Records.Dir(), Missing: c.Records.Missing()}
	if err := c.Records.Verify(ctx); errors.Is(err, attach.ErrDamaged) {
		s.Damage = err
	}
	if errors.Is(h.RecordsErr, attach.ErrDamaged) {
		s.Damage = h.RecordsErr
	}
	if s.Damage != nil {
		return s // what is in it is not known
	}
	if errors.Is(h.RecordsErr, attach.ErrUnreadable) {
		for line := range strings.Lines(h.RecordsErr.Error()) {
			s.Unreadable = append(s.Unreadable, strings.TrimRight(line, "\n"))
		}
		return s
	}
	s.Unrecorded = host.Unrecorded(h.Links, h.Records)
	if s.Missing {
		s.Unrecorded = rebuild.Living(c.caches())
	}
	return s
}

// checkStateFile tells whether the records are there and can be read.
func checkStateFile(f *facts) ([]Problem, error) {
	s := &f.Host.StateFile
	const fix = "berth doctor --fix"
	var found []Problem
	if s.Damage != nil {
		what, _, _ := strings.Cut(host.Summary(s.Damage), ": 'berth doctor")
		found = append(found, problem(what, "no container can be added, and nobody knows what those that are there were given: DEL finds by the key what it can",
			fix+": it keeps the damaged file, and makes the records again from what can be read of it, from what runtimes keep, and from the kernel"))
	}
	for _, what := range s.Unreadable {
		found = append(found, problem(what, "this version can neither check nor delete what the container was given",
			"have the version that wrote it delete it, or: "+fix+", which keeps the file as it is beside, and makes the record again from the kernel"))
	}
	if len(s.Unrecorded) > 0 {
		what := "containers live behind " + host.Some(s.Unrecorded) + ", and have no record"
		if s.Missing {
			what += ": there is no state file in " + s.Dir
		}
		found = append(found, problem(what, "they were added with another state folder, or their records are lost: nobody keeps their addresses from others",
			"say --state-dir if they are in another folder; else: "+fix))
	}
	return found, nil
}

// rebuild makes the records again. It returns what was done, in lines.
func (c *Config) rebuild(ctx context.Context) []string {
	r, err := rebuild.Run(ctx, rebuild.Config{Store: c.Records, ConfDir: c.ConfDir, DataDir: c.DataDir, Caches: c.caches(), Now: c.Now})
	if err != nil {
		return []string{fmt.Sprintf("NOT done: %s", host.Summary(err))}
	}
	return r.Lines()
}

func (c *Config) caches() []string {
	if c.Caches == nil {
		return rebuild.Caches()
	}
	return c.Caches
}
