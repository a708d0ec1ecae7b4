// Package trace records what the engine does, one event a step.
//
// A step is opened with [Step] and closed with [Span.End]; the closing makes an
// [Event] that says what was done, to which container, on which path, where in
// our source, how long it took, with which values, and the kernel's own
// evidence for it. Steps of one run, in order:
//
//	cli.dial  cli.call  daemon.accept  daemon.dispatch  images.find
//	container.create  runtime.config  union.mount  network.attach  runtime.start
//	runtime.isolate  container.wait  union.umount  container.cleanup
//
// # Invariants
//
//   - Nobody listens: a step costs one atomic load, no event is made and no
//     evidence is read.
//   - A listener that is too slow is dropped, never waited for: its channel is
//     closed and [Subscription.Dropped] tells it so.
//   - Events of one recorder carry strictly rising sequence numbers, in the
//     order in which the steps ended.
//
// The package knows nothing of containers, kernels or files: evidence comes from
// the readers that main registers with [Recorder.Collect].
package trace

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Event is one finished step.
type Event struct {
	Seq       uint64         `json:"seq"`                 // rises by one an event
	Call      uint64         `json:"call,omitempty"`      // the call it belongs to, 0: none
	Container string         `json:"container,omitempty"` // container id, "" before there is one
	Path      string         `json:"path,omitempty"`      // "classic" or "modern"
	Step      string         `json:"step"`                // "union.mount"
	Start     time.Time      `json:"start"`
	Duration  time.Duration  `json:"duration_ns"`
	Source    string         `json:"source,omitempty"` // "lxc/start.go:42", where the step was opened
	Values    map[string]any `json:"values,omitempty"` // what the step worked on
	Evidence  []Evidence     `json:"evidence,omitempty"`
	Error     string         `json:"error,omitempty"`
}

// Evidence is a piece of system state that shows that a step happened.
type Evidence struct {
	Kind string `json:"kind"` // what it is: "mountinfo", "config.lxc", "namespaces"
	From string `json:"from"` // where it was read: a path a learner can open
	Text string `json:"text"` // as read, or the part that matters
}

// Collector reads the evidence for one finished step. It is called only when
// somebody listens, on the goroutine that ended the step; it must be quick.
type Collector func(*Event) []Evidence

// Recorder hands the events of one process to its subscribers.
// Its zero value is ready for use.
type Recorder struct {
	listeners atomic.Int32 // number of subscriptions: the fast path's only question

	mu         sync.Mutex
	seq        uint64
	subs       map[*Subscription]struct{}
	collectors map[string]Collector
}

// Collect registers the reader of a step's evidence, one per step name.
// To be called before the first event.
func (r *Recorder) Collect(step string, c Collector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.collectors == nil {
		r.collectors = map[string]Collector{}
	}
	r.collectors[step] = c
}

// Subscription receives events until it is closed or too slow.
type Subscription struct {
	// C delivers the events. It is closed by Close, and when the buffer was full.
	C <-chan Event

	r       *Recorder
	c       chan Event
	call    uint64
	dropped atomic.Bool
}

// Subscribe starts a subscription of all events (call 0) or of one call's.
// At most buffer events wait; one more and the subscription is dropped.
func (r *Recorder) Subscribe(call uint64, buffer int) *Subscription {
	c := make(chan Event, buffer)
	s := &Subscription{C: c, c: c, r: r, call: call}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.subs == nil {
		r.subs = map[*Subscription]struct{}{}
	}
	r.subs[s] = struct{}{}
	r.listeners.Add(1)
	return s
}

// Close ends the subscription. Events that already wait in C can still be read.
// Closing twice is harmless.
func (s *Subscription) Close() {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.remove(s)
}

// Dropped reports whether the subscription ended because its reader was too slow.
func (s *Subscription) Dropped() bool { return s.dropped.Load() }

// remove takes s out; r.mu is held.
func (r *Recorder) remove(s *Subscription) {
	if _, ok := r.subs[s]; ok {
		delete(r.subs, s)
		r.listeners.Add(-1)
		close(s.c)
	}
}

// emit numbers the event and hands it to every subscriber that wants it.
func (r *Recorder) emit(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Seq = r.seq
	for s := range r.subs {
		if s.call != 0 && s.call != e.Call {
			continue
		}
		select {
		case s.c <- e:
		default:
			s.dropped.Store(true)
			r.remove(s)
		}
	}
}

// scope is what a context carries: where events go and what they are about.
type scope struct {
	recorder  *Recorder
	call      uint64
	container string
	path      string
}

type scopeKey struct{}

func scopeOf(ctx context.Context) scope {
	s, _ := ctx.Value(scopeKey{}).(scope)
	return s
}

// WithRecorder returns a context whose steps go to r as part of the given call.
func WithRecorder(ctx context.Context, r *Recorder, call uint64) context.Context {
	s := scopeOf(ctx)
	s.recorder, s.call = r, call
	return context.WithValue(ctx, scopeKey{}, s)
}

// WithContainer returns a context whose steps are about one container, on one
// of the two paths ("classic", "modern").
func WithContainer(ctx context.Context, id, path string) context.Context {
	s := scopeOf(ctx)
	s.container, s.path = id, path
	return context.WithValue(ctx, scopeKey{}, s)
}

// Span is an open step. A nil Span, the one nobody listens to, takes every call
// and does nothing.
type Span struct {
	recorder *Recorder
	event    Event
	ended    bool
}

// Step opens a step. The values are pairs of a name and what it stands for, as
// in log/slog. The span must be ended by the same goroutine.
func Step(ctx context.Context, name string, values ...any) *Span {
	s := scopeOf(ctx)
	if s.recorder == nil || s.recorder.listeners.Load() == 0 {
		return nil
	}
	span := &Span{recorder: s.recorder, event: Event{
		Call: s.call, Container: s.container, Path: s.path, Step: name,
		Start: time.Now(), Source: caller(2),
	}}
	span.Set(values...)
	return span
}

// Set adds values that became known while the step ran.
func (s *Span) Set(values ...any) {
	if s == nil {
		return
	}
	if s.event.Values == nil && len(values) > 0 {
		s.event.Values = make(map[string]any, len(values)/2)
	}
	for i := 0; i+1 < len(values); i += 2 {
		s.event.Values[fmt.Sprint(values[i])] = values[i+1]
	}
}

// Container says which container the step turned out to be about, for the step
// that makes one.
func (s *Span) Container(id, path string) {
	if s != nil {
		s.event.Container, s.event.Path = id, path
	}
}

// Since says that the step began earlier, for one whose beginning another
// package saw.
func (s *Span) Since(t time.Time) {
	if s != nil && !t.IsZero() {
		s.event.Start = t
	}
}

// Listening reports whether anybody will see this step, for callers whose
// values are costly to find.
func (s *Span) Listening() bool { return s != nil }

// End closes the step with its outcome and returns that error unchanged, so
// that it can stand in a return statement. A second End does nothing: a
// deferred End catches the early returns that an explicit one doesn't.
func (s *Span) End(err error) error {
	if s == nil || s.ended {
		return err
	}
	s.ended = true
	s.event.Duration = time.Since(s.event.Start)
	if err != nil {
		s.event.Error = err.Error()
	}
	s.recorder.mu.Lock()
	collect := s.recorder.collectors[s.event.Step]
	s.recorder.mu.Unlock()
	if collect != nil {
		e := s.event
		e.Values = maps.Clone(s.event.Values)
		s.event.Evidence = collect(&e)
	}
	s.recorder.emit(s.event)
	return err
}

// caller returns "room/file.go:line" of the function skip frames up.
func caller(skip int) string {
	_, file, line, ok := runtime.Caller(skip)
	if !ok {
		return ""
	}
	dir, base := filepath.Split(file)
	room := filepath.Base(dir)
	if parent := filepath.Base(filepath.Dir(strings.TrimSuffix(dir, "/"))); parent == "cmd" {
		room = "cmd/" + room
	}
	return fmt.Sprintf("%s/%s:%d", room, base, line)
}
