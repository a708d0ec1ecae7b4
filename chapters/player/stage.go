package player

import (
	"context"
	"errors"

	"docker2013/chapters"
)

// stage is where a chapter is played: a shell for each path, opened when it is first
// needed. One job at a time uses it.
type stage struct {
	host    *chapters.Host
	chapter *chapters.Chapter
	shells  map[chapters.Path]*chapters.Shell
	ran     map[chapters.Path]map[string]bool // steps, by id
}

// enter makes the stage another chapter's.
func (s *stage) enter(ctx context.Context, c *chapters.Chapter) error {
	if s.chapter == c {
		return nil
	}
	err := s.close(ctx)
	s.chapter = c
	return err
}

// close ends the shells, with all that they made.
func (s *stage) close(ctx context.Context) (err error) {
	for _, shell := range s.shells {
		err = errors.Join(err, shell.Close(context.WithoutCancel(ctx)))
	}
	s.shells, s.ran, s.chapter = map[chapters.Path]*chapters.Shell{}, map[chapters.Path]map[string]bool{}, nil
	return err
}

// play runs a step on a path. The steps before it, which leave variables and containers
// to it, run first if they haven't; catchUp is told of each.
func (s *stage) play(ctx context.Context, c *chapters.Chapter, step *chapters.Step, path chapters.Path, catchUp func(*chapters.Step), line func(string)) chapters.Result {
	failed := func(err error) chapters.Result {
		return chapters.Result{Path: path, Status: -1, Err: err}
	}
	if err := s.enter(ctx, c); err != nil {
		return failed(err)
	}
	if s.shells[path] == nil {
		shell, err := s.host.Open(ctx, c, path)
		if err != nil {
			return failed(err)
		}
		s.shells[path], s.ran[path] = shell, map[string]bool{}
	}
	for _, before := range c.Steps {
		if before == step {
			break
		}
		if before.On(path) && !s.ran[path][before.ID] {
			catchUp(before)
			if r := s.shells[path].Play(ctx, before, path, func(string) {}); r.Err != nil {
				return failed(r.Err)
			}
			s.ran[path][before.ID] = true
		}
	}
	r := s.shells[path].Play(ctx, step, path, line)
	s.ran[path][step.ID] = r.Err == nil
	return r
}
