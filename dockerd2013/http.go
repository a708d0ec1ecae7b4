package dockerd2013

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sys/unix"

	"docker2013/rcli"
)

// handler is what answers on the HTTP port:
//
//	GET /                           the page
//	GET /api/events                 the trace, as server-sent events
//	ANY /ANY/PREFIX/COMMAND?q=ARG…  a call, as in 2013
//
// It answers only to whoever means it; see guard.
func (d *Daemon) handler(listen net.Addr) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(d.recoverPanic, guard(listen))
	r.GET("/", func(g *gin.Context) { servePage(g.Writer) })
	r.GET("/api/events", d.events)
	r.NoRoute(d.httpCall)
	return r
}

// httpCall is a call by HTTP (docker@bba4e36807:rcli/http.go:15): the path's last
// element is the command, every q an argument, the body stdin. An error is a
// line in the body, and the status 200.
func (d *Daemon) httpCall(g *gin.Context) {
	// The command may answer before it has read all of its input.
	if err := http.NewResponseController(g.Writer).EnableFullDuplex(); err != nil {
		d.Log.Debug("full duplex", "err", err)
	}
	h := g.Writer.Header()
	// What a container says must never be a page, with our origin's rights.
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	command := path.Base(g.Request.URL.Path)
	if command == "web" {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", pagePolicy)
	}
	g.Status(http.StatusOK)
	out := &flushWriter{w: g.Writer}
	args := append([]string{command}, g.Request.URL.Query()["q"]...)
	err := rcli.CheckArgs(args)
	if err == nil {
		err = d.Serve(g.Request.Context(), &rcli.Call{
			Args: args, Stdin: g.Request.Body, Stdout: out, Stderr: out,
			Wire: "http", Remote: g.Request.RemoteAddr, Accepted: time.Now(),
		})
	}
	if err != nil && err.Error() != "" {
		_, _ = fmt.Fprintf(out, "Error: %s\n", err) // the client may be gone
	}
}

// flushWriter sends every write at once, from whichever goroutine.
type flushWriter struct {
	mu sync.Mutex
	w  gin.ResponseWriter
}

func (f *flushWriter) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.w.Write(p)
	f.w.Flush()
	return n, err
}

// events streams the trace of all calls until the client goes away.
func (d *Daemon) events(g *gin.Context) {
	sub := d.Recorder.Subscribe(0, 4096)
	defer sub.Close()
	h := g.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	g.Status(http.StatusOK)
	g.Writer.Flush()
	for {
		select {
		case e, ok := <-sub.C:
			if !ok { // too slow: say so and let it connect again
				_, _ = io.WriteString(g.Writer, "event: dropped\ndata: {}\n\n")
				g.Writer.Flush()
				return
			}
			data, err := json.Marshal(e)
			if err == nil {
				_, err = fmt.Fprintf(g.Writer, "id: %d\nevent: step\ndata: %s\n\n", e.Seq, data)
			}
			if err != nil {
				return
			}
			g.Writer.Flush()
		case <-g.Request.Context().Done():
			return
		}
	}
}

// recoverPanic keeps a panic to the request that had it.
func (d *Daemon) recoverPanic(g *gin.Context) {
	defer func() {
		if v := recover(); v != nil {
			d.Log.Error("panic in a call", "panic", v, "path", g.Request.URL.Path)
			_, _ = io.WriteString(g.Writer, "Error: internal error\n")
			g.Abort()
		}
	}()
	g.Next()
}

// Listen opens one of the daemon's two ports. Anybody who reaches it is root
// on this host, so it must be on loopback unless insecure says that the user
// knows.
func Listen(ctx context.Context, address string, insecure bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: say HOST:PORT, such as 127.0.0.1:4242", address)
	}
	if !insecure && !isLoopback(host) {
		return nil, fmt.Errorf("listen on %s: whoever reaches this port is root here, without a password; "+
			"take a loopback address, or add --insecure-remote if this network is yours alone", address)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		var busy *net.OpError
		if errors.As(err, &busy) {
			err = busy.Err
		}
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("%w: is a daemon there already? Choose another with --tcp or --http", err)
		}
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}
