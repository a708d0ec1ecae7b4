package trace_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"docker2013/trace"
)

func TestNobodyListens(t *testing.T) {
	var r trace.Recorder
	r.Collect("x", func(*trace.Event) []trace.Evidence {
		t.Error("evidence was read for nobody")
		return nil
	})
	ctx := trace.WithRecorder(t.Context(), &r, 1)
	for name, ctx := range map[string]context.Context{"no recorder": t.Context(), "no listener": ctx} {
		span := trace.Step(ctx, "x", "key", "value")
		if span != nil || span.Listening() {
			t.Errorf("%s: a span was made", name)
		}
		// All of it does nothing, and hands the error on.
		span.Set("a", 1)
		span.Container("id", "classic")
		span.Since(time.Now())
		cause := errors.New("cause")
		if err := span.End(cause); err != cause {
			t.Errorf("%s: End returned %v", name, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { trace.Step(ctx, "x").End(nil) }); n != 0 {
		t.Errorf("a step that nobody sees allocates %v times", n)
	}
}

func TestEvents(t *testing.T) {
	var r trace.Recorder
	r.Collect("second", func(e *trace.Event) []trace.Evidence {
		e.Values["spoilt"] = true // its own copy
		return []trace.Evidence{{Kind: "kind", From: "/proc/x", Text: "line 1\nline 2\n"}}
	})
	sub := r.Subscribe(0, 10)
	ctx := trace.WithContainer(trace.WithRecorder(t.Context(), &r, 7), "0705e18c", "classic")

	outer := trace.Step(ctx, "first", "a", 1)
	inner := trace.Step(ctx, "second", "b", 2)
	began := time.Now().Add(-time.Hour)
	inner.Since(began)
	if err := inner.End(errors.New("it broke")); err == nil {
		t.Error("End lost the error")
	}
	outer.Set("c", 3)
	outer.End(nil)
	outer.End(errors.New("too late"))
	sub.Close()
	sub.Close()

	var events []trace.Event
	for e := range sub.C {
		events = append(events, e)
	}
	if len(events) != 2 {
		t.Fatalf("%d events, want 2: %+v", len(events), events)
	}
	second, first := events[0], events[1]
	if second.Seq != 1 || first.Seq != 2 || second.Step != "second" || first.Step != "first" {
		t.Errorf("not in the order in which they ended: %+v", events)
	}
	for _, e := range events {
		if e.Call != 7 || e.Container != "0705e18c" || e.Path != "classic" || !strings.HasPrefix(e.Source, "trace/trace_test.go:") {
			t.Errorf("event %+v", e)
		}
	}
	if second.Error != "it broke" || second.Duration < time.Hour || !second.Start.Equal(began) ||
		len(second.Evidence) != 1 || second.Values["b"] != 2 || second.Values["spoilt"] != nil {
		t.Errorf("second: %+v", second)
	}
	if first.Error != "" || first.Values["a"] != 1 || first.Values["c"] != 3 || first.Evidence != nil {
		t.Errorf("first: %+v", first)
	}

	text := trace.Style{}.Text(second)
	for _, want := range []string{"second", "b=2", "failed: it broke", "kind · /proc/x", "line 2"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") || !strings.Contains(trace.Style{Color: true}.Text(second), "\x1b[") {
		t.Error("colour is not as asked for")
	}
	var back trace.Event
	data, err := json.Marshal(second)
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil || back.Step != "second" || back.Duration != second.Duration {
		t.Errorf("through JSON: %+v, %v", back, err)
	}
}

// A subscriber of one call sees that one's steps only.
func TestOneCall(t *testing.T) {
	var r trace.Recorder
	one := r.Subscribe(1, 10)
	for call := range uint64(3) {
		trace.Step(trace.WithRecorder(t.Context(), &r, call), "step").End(nil)
	}
	one.Close()
	n := 0
	for e := range one.C {
		if n++; e.Call != 1 {
			t.Errorf("event of call %d", e.Call)
		}
	}
	if n != 1 || one.Dropped() {
		t.Errorf("%d events, dropped %v", n, one.Dropped())
	}
}

// One that doesn't read is dropped, and nobody waits for it.
func TestSlowListenerIsDropped(t *testing.T) {
	var r trace.Recorder
	slow, quick := r.Subscribe(0, 1), r.Subscribe(0, 100)
	ctx := trace.WithRecorder(t.Context(), &r, 0)
	for range 5 {
		trace.Step(ctx, "step").End(nil)
	}
	quick.Close()
	n := 0
	for range slow.C {
		n++
	}
	if n != 1 || !slow.Dropped() || quick.Dropped() || len(quick.C) != 5 {
		t.Errorf("the slow one has %d events, dropped %v; the quick one %d, dropped %v", n, slow.Dropped(), len(quick.C), quick.Dropped())
	}
	if trace.Step(ctx, "step") != nil {
		t.Error("somebody still listens")
	}
}

func TestManyAtOnce(t *testing.T) {
	var r trace.Recorder
	sub := r.Subscribe(0, 10_000)
	var wg sync.WaitGroup
	for call := range uint64(20) {
		wg.Go(func() {
			for range 50 {
				trace.Step(trace.WithRecorder(t.Context(), &r, call), "step").End(nil)
				r.Subscribe(call, 1).Close()
			}
		})
	}
	wg.Wait()
	sub.Close()
	last := uint64(0)
	for e := range sub.C {
		if e.Seq != last+1 {
			t.Fatalf("event %d after %d", e.Seq, last)
		}
		last = e.Seq
	}
	if last != 1000 {
		t.Errorf("%d events, want 1000", last)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		310 * time.Microsecond:              "310µs",
		1240 * time.Microsecond:             "1.24ms",
		2*time.Second + 50*time.Millisecond: "2.05s",
		0:                                   "0s",
	} {
		if got := trace.Short(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
