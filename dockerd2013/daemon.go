package dockerd2013

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"docker2013/container"
	"docker2013/images"
	"docker2013/rcli"
	"docker2013/trace"
)

// Version is the daemon's.
const Version = "0.1.0"

// Grace is how long a container has to end after SIGTERM, in `stop` and at the
// daemon's own end (docker@bba4e36807:container.go:371).
const Grace = 10 * time.Second

// Daemon is the engine behind the two listeners.
type Daemon struct {
	Images     *images.Store
	Containers *container.Store
	// Engines are the paths, by name: the classic one always, the modern one
	// where its parts are there.
	Engines  map[string]container.Engine
	Recorder *trace.Recorder
	Log      *slog.Logger

	// Root is the data directory; HTTP the address of the page, for `web -u`.
	Root, HTTP string
	// Init is the program of `run --init`, on the host.
	Init string
	// Facts are further lines of `info` and `version`: what it stands on.
	Facts []Fact

	calls atomic.Uint64
	// choosing is held for reading between the choice of an image and the
	// container that uses it, for writing by rmi.
	choosing sync.RWMutex
}

// Fact is a line of `info`.
type Fact struct{ Name, Value string }

// Run serves HTTP on web and calls on the others, until ctx ends or one of them
// fails, and closes them. When it returns no call runs any more. Containers go on;
// Close ends them.
func (d *Daemon) Run(ctx context.Context, web net.Listener, listeners ...net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	calls := &rcli.Server{Service: d, Log: d.Log}
	var requests sync.RWMutex // each holds it for reading
	handler := d.handler(web.Addr())
	pages := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.RLock()
			defer requests.RUnlock()
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 30 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(d.Log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1+len(listeners))
	for _, l := range listeners {
		go func() { ended <- calls.Serve(ctx, l) }()
	}
	go func() { ended <- pages.Serve(web) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-ended:
		ended <- nil
	}
	cancel(errors.New("the daemon is ending"))
	_ = pages.Close() // its calls have the context's end
	for range cap(ended) {
		err = errors.Join(err, ignoreClosed(<-ended))
	}
	requests.Lock() // until the last has taken back what it mounted; no other begins
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Close stops every container and lets go of the kernel's things.
func (d *Daemon) Close() error {
	err := d.Containers.Close(context.Background(), Grace)
	for _, u := range d.unions() {
		err = errors.Join(err, u.Close())
	}
	// The classic runtime's cgroups hold the modern one's, so that goes first.
	for _, name := range []string{container.Modern, container.Classic} {
		if e, ok := d.Engines[name]; ok {
			err = errors.Join(err, e.Runtime.Close())
		}
	}
	return err
}

// unions are those of all paths, each once.
func (d *Daemon) unions() []container.Union {
	var list []container.Union
	for _, e := range d.Engines {
		if !slices.Contains(list, e.Union) {
			list = append(list, e.Union)
		}
	}
	return list
}

// Serve runs one call. It is rcli's Service, and HTTP's.
func (d *Daemon) Serve(ctx context.Context, c *rcli.Call) error {
	call := d.calls.Add(1)
	ctx = trace.WithRecorder(ctx, d.Recorder, call)
	if c.Trace {
		defer d.sendTrace(c, call)()
	}
	accept := trace.Step(ctx, "daemon.accept", "wire", c.Wire, "from", c.Remote)
	accept.Since(c.Accepted)
	accept.End(nil)
	return d.dispatch(ctx, c)
}

// sendTrace sends the steps of one call to its client as they end. The function
// it returns sends the last ones and ends it.
func (d *Daemon) sendTrace(c *rcli.Call, call uint64) func() {
	sub := d.Recorder.Subscribe(call, 1024)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for e := range sub.C {
			if sendEvent(c, e) != nil {
				sub.Close() // the client has gone
			}
		}
		if sub.Dropped() {
			fmt.Fprintln(c.Stderr, "trace: this client is too slow, steps were dropped")
		}
	}()
	return func() {
		sub.Close()
		<-sent
	}
}
