package cli2013

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"docker2013/rcli"
)

// endError ends the client before its call has ended.
type endError struct {
	code int    // exit status
	text string // for the user, "": nothing
}

func (e *endError) Error() string { return e.text }

// inARow is how soon one ^C must follow another to be one more of a row.
const inARow = 10 * time.Second

// signals takes what the user sends to this process, as long as a call of a
// process runs:
//
//   - in raw mode a signal does not come from the keyboard: somebody wants the
//     client to end, and it does so in good order;
//   - else the signals are for the container, as if it were in our place. The
//     third ^C in a row means the client.
//
// For other calls signals do what they always do.
func (c *Client) signals(tty *terminal, call Call, session *rcli.Session) (ended <-chan *endError, stop func()) {
	end := make(chan *endError, 1)
	done := make(chan struct{})
	var wanted []os.Signal
	var take func(syscall.Signal)
	switch {
	case tty.raw():
		// SIGPIPE too: stdout may be a pipe, and would kill before restore. It doesn't say
		// whose pipe broke, the daemon's connection or ours: Receive does.
		wanted = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE}
		take = func(sig syscall.Signal) {
			if sig != syscall.SIGPIPE {
				first(end, &endError{code: 128 + int(sig)})
			}
		}
	case call.Attached:
		wanted = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
		take = forward(session, end, done)
	default:
		return end, func() {}
	}

	came := make(chan os.Signal, 16)
	for _, sig := range wanted {
		if !signal.Ignored(sig) { // nohup(1) and shells' background jobs rely on it
			signal.Notify(came, sig)
		}
	}
	go tty.guard(func() {
		for {
			select {
			case sig := <-came:
				take(sig.(syscall.Signal))
			case <-done:
				return
			}
		}
	})
	return end, func() {
		close(done)
		go signal.Stop(came) // it takes a tenth of a millisecond, and mostly we end
	}
}

// first puts e into end, unless there is one already.
func first(end chan<- *endError, e *endError) {
	select {
	case end <- e:
	default:
	}
}

// forward sends signals to the container until done, and counts.
func forward(session *rcli.Session, end chan<- *endError, done <-chan struct{}) func(syscall.Signal) {
	// A goroutine of its own sends: the wire may be stuck behind stdin that
	// nobody reads, and the third ^C must count all the same.
	queue := make(chan syscall.Signal, 16)
	go func() {
		for {
			select {
			case sig := <-queue:
				session.Signal(sig) // Receive tells of a broken wire
			case <-done:
				return
			}
		}
	}()
	presses, last := 0, time.Time{}
	return func(sig syscall.Signal) {
		if sig != syscall.SIGINT || time.Since(last) > inARow {
			presses = 0
		}
		if sig == syscall.SIGINT {
			presses, last = presses+1, time.Now()
		}
		if presses == 3 {
			first(end, &endError{128 + int(sig), "gave up after the third ^C; the container still runs, see docker2013 ps"})
			return
		}
		select {
		case queue <- sig:
		default: // stuck: the user can still give up
		}
	}
}
