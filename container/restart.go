package container

import (
	"context"
	"errors"
	"math"
	"time"
)

// The pause before a container is started again begins with restartPause and
// doubles up to restartMost; a run that lasted restartGood begins anew.
const (
	restartPause = 100 * time.Millisecond
	restartMost  = time.Minute
	restartGood  = 10 * time.Second
)

// wants reports whether a run that ended with code is followed by another, the
// restarts-th. One that its user stopped is not.
func (p RestartPolicy) wants(code, restarts int, stopped bool) bool {
	switch p.Name {
	case "always", "unless-stopped":
		return !stopped
	case "on-failure":
		return !stopped && code != 0 && (p.Max == 0 || restarts < p.Max)
	default:
		return false
	}
}

// wantsAtStart reports whether a new daemon starts it. Always means always, a user's
// stop is remembered by unless-stopped.
func (p RestartPolicy) wantsAtStart(stopped bool) bool {
	return p.Name == "always" || p.Name == "unless-stopped" && !stopped
}

// Why a policy's run doesn't begin, beside ErrRunning and ErrRemoved.
var (
	errStopped = errors.New("stopped by its user")
	errClosing = errors.New("the daemon is ending")
)

// stoppedByUser notes that somebody wants it to have ended.
func (c *Container) stoppedByUser() error {
	if c.store.closing.Load() {
		return nil // the daemon's end is nobody's wish
	}
	if c.there() != nil {
		return ErrRemoved
	}
	c.remember(func(r *Record) { r.State.Stopped = true })
	if c.write() != nil {
		c.saveAfter(saveAgain)
	}
	return nil
}

// again starts the container after the end of a run, if its policy wants so.
func (c *Container) again(ctx context.Context) {
	r := c.Record()
	s := r.State
	if c.store.closing.Load() || !r.Config.Restart.wants(s.ExitCode, r.Restarts, s.Stopped) {
		return
	}
	restarts := r.Restarts + 1
	if !s.StartedAt.IsZero() && s.FinishedAt.Sub(s.StartedAt) > restartGood {
		restarts = 1
	}
	pause := min(time.Duration(float64(restartPause)*math.Pow(2, float64(min(restarts-1, 20)))), restartMost)
	time.AfterFunc(pause, func() {
		now := c.Record().State
		if c.store.closing.Load() || now.Stopped || now.Running || !now.FinishedAt.Equal(s.FinishedAt) {
			return // somebody else has decided meanwhile
		}
		c.remember(func(r *Record) { r.Restarts = restarts })
		_, err := c.begin(ctx, Window{}, byPolicy)
		switch {
		case err == nil:
			c.save()
		case !errors.Is(err, ErrRemoved) && !errors.Is(err, ErrRunning) && !errors.Is(err, errStopped) && !errors.Is(err, errClosing):
			c.log.Error("start again", "container", c.id, "err", err)
			c.again(ctx) // what it lacks, room on the disk maybe, may come
		}
	})
}

// StartWanted starts what a restart policy wants to run, after a daemon's start.
func (s *Store) StartWanted(ctx context.Context) {
	for _, c := range s.List() {
		r := c.Record()
		if !r.State.Running && !r.State.FinishedAt.IsZero() && r.Config.Restart.wantsAtStart(r.State.Stopped) {
			if err := c.Start(ctx); err != nil {
				c.log.Error("start again", "container", c.id, "err", err)
				c.again(context.WithoutCancel(ctx))
			}
		}
	}
}
