package cli2013

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"docker2013/trace"
)

// TraceFormat is how steps are written on stderr; "" is not at all.
type TraceFormat string

// The formats: lines for people, or one JSON object a line.
const (
	TraceText TraceFormat = "text"
	TraceJSON TraceFormat = "json"
)

// tracer writes the client's own steps and the daemon's as they come, and
// numbers them as one list. A nil tracer does nothing.
type tracer struct {
	format TraceFormat
	style  trace.Style
	own    trace.Recorder
	steps  *trace.Subscription // of own

	mu  sync.Mutex
	w   io.Writer
	seq uint64
}

func newTracer(format TraceFormat, style trace.Style, w io.Writer) *tracer {
	if format == "" {
		return nil
	}
	t := &tracer{format: format, style: style, w: w}
	t.steps = t.own.Subscribe(0, 8) // more than the client has
	return t
}

// context makes steps below it the tracer's.
func (t *tracer) context(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	return trace.WithRecorder(ctx, &t.own, 0)
}

// flush writes the client's own steps that have ended.
func (t *tracer) flush() {
	if t == nil {
		return
	}
	for {
		select {
		case e := <-t.steps.C:
			t.write(e)
		default:
			return
		}
	}
}

// daemon writes a step of the daemon's.
func (t *tracer) daemon(event []byte) {
	if t == nil {
		return
	}
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber() // a byte count stays 1048576, not 1.048576e+06
	var e trace.Event
	if err := d.Decode(&e); err != nil {
		fmt.Fprintf(t.w, "docker2013: a trace event is not understood: %v\n", err)
		return
	}
	t.write(e)
}

func (t *tracer) write(e trace.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seq++
	e.Seq = t.seq
	if t.format == TraceText {
		io.WriteString(t.w, t.style.Text(e))
		return
	}
	var line bytes.Buffer
	j := json.NewEncoder(&line)
	j.SetEscapeHTML(false)
	if err := j.Encode(e); err != nil {
		fmt.Fprintf(t.w, "docker2013: a trace event can't be written: %v\n", err)
		return
	}
	t.w.Write(line.Bytes())
}
