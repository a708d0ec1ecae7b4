package native

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/native/shim"
)

// execution is a further process.
type execution struct {
	started chan error          // one value: nil, or why it couldn't be executed
	done    chan container.Exit // one value
	pidfd   int                 // -1: not there yet, or ended
	told    bool                // started has its value
}

func (e *execution) start(err error) {
	if !e.told {
		e.told = true
		e.started <- err
	}
}

func (e *execution) end(exit container.Exit) {
	e.start(exit.Err)
	e.done <- exit
}

// Exec runs a further program in the container.
func (p *process) Exec(ctx context.Context, e container.Exec) (container.Exit, error) {
	record := *p.record
	record.Config.User = cmp.Or(e.User, record.Config.User)
	record.Config.WorkingDir = cmp.Or(e.Dir, record.Config.WorkingDir)
	s, err := p.rt.spec(&record)
	if err != nil {
		return container.Exit{}, err
	}
	s.Process.Args, s.Process.Env, s.Process.Terminal = e.Args, e.Env, false
	s.Process.OOMScoreAdj = nil
	join, err := p.group.Join()
	if errors.Is(err, unix.ENOENT) { // it went with the container
		err = container.ErrNotRunning
	}
	if err != nil {
		return container.Exit{}, fmt.Errorf("exec in container %s: %w", p.record.Id, err)
	}
	defer join.Close()
	x, err := p.rt.setup(s, join)
	if err != nil {
		return container.Exit{}, err
	}
	for i, f := range []*os.File{e.Streams.In, e.Streams.Out, e.Streams.Err} {
		if f == nil {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				return container.Exit{}, fmt.Errorf("exec in container %s: %w", p.record.Id, err)
			}
			defer null.Close()
			f = null
		}
		x.Stdio[i] = x.Add(int(f.Fd()))
	}
	x.Controlling = e.Streams.Terminal
	if err := giveStreams(IDs(s), e.Streams.In, e.Streams.Out, e.Streams.Err); err != nil {
		return container.Exit{}, err
	}
	id, further, err := p.sendExec(s, x)
	defer p.forget(id)
	if err != nil {
		return container.Exit{}, err
	}
	if err := <-further.started; err != nil {
		return container.Exit{}, startError(e.Args[0], err)
	}
	for {
		select {
		case exit := <-further.done:
			return exit, nil
		case sig := <-e.Signals:
			p.mu.Lock()
			if further.pidfd >= 0 {
				_ = unix.PidfdSendSignal(further.pidfd, sig, nil, 0) // ended already: no matter
			}
			p.mu.Unlock()
		}
	}
}

// sendExec has the shim start a further process. It is to be forgotten by its id.
func (p *process) sendExec(s *specs.Spec, x Setup) (uint64, *execution, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return 0, nil, container.ErrNotRunning
	}
	x.Pidfd = x.Add(p.pidfd)
	program, err := CompileExec(s, x)
	if err != nil {
		return 0, nil, fmt.Errorf("exec in container %s: %w", p.record.Id, err)
	}
	id, e := p.rt.execs.Add(1), &execution{started: make(chan error, 1), done: make(chan container.Exit, 1), pidfd: -1}
	p.execs[id] = e
	if err := p.conn.Send(shim.Exec, shim.ExecOrder{ID: id}, program.Encode(), x.FDs...); err != nil {
		return id, nil, fmt.Errorf("exec in container %s: %w", p.record.Id, err)
	}
	return id, e, nil
}

func (p *process) forget(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.execs[id]; e != nil && e.pidfd >= 0 {
		_ = unix.Close(e.pidfd)
		e.pidfd = -1
	}
	delete(p.execs, id)
}

// hearExec hands the shim's word on a further process to who waits for it.
func (p *process) hearExec(m shim.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Kind {
	case shim.ExecFailed:
		var f shim.FailedNote
		if m.Read(&f) == nil && p.execs[f.ID] != nil {
			p.execs[f.ID].start(failure(f))
		}
	case shim.ExecStart:
		var n shim.ExecNote
		if m.Read(&n) == nil && p.execs[n.ID] != nil && len(m.Files) == 1 {
			p.execs[n.ID].pidfd = m.Files[0]
			p.execs[n.ID].start(nil)
			return
		}
	case shim.ExecExited:
		var n shim.ExecNote
		if m.Read(&n) == nil && p.execs[n.ID] != nil {
			p.execs[n.ID].end(exitOf(shim.ExitNote{Status: n.Status}))
		}
	}
	shim.CloseAll(m.Files)
}
