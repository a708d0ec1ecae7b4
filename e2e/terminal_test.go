package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdTerminal runs a program in a terminal of 24 by 80 and plays a dialogue:
//
//	terminal DIALOGUE PROGRAM [ARG…]
//
// The dialogue is a file with a step a line:
//
//	expect TEXT       waits until the screen's stream has TEXT, from the last one on
//	send TEXT         types TEXT; \r, \x03 and the like are what Go means by them
//	resize ROWS COLS  the window changes
//	exit CODE         waits for the end of the program
//
// Everything that was shown becomes stdout.
func cmdTerminal(ts *testscript.TestScript, neg bool, args []string) {
	dialogue := ts.ReadFile(args[0])
	cmd := exec.Command(filepath.Join(binaries, args[1]), args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "DOCKER="+theDaemon(ts).tcp, "TERM=xterm")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	ts.Check(err)
	defer tty.Close()
	screen := &screen{}
	go screen.read(tty)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Kill()
		_, _ = ts.Stdout().Write([]byte(screen.all()))
	}()

	for n, line := range strings.Split(strings.TrimSpace(dialogue), "\n") {
		verb, rest, _ := strings.Cut(line, " ")
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
		ts.Check(err)
		switch verb {
		case "expect":
			if !screen.wait(text, 20*time.Second) {
				ts.Fatalf("line %d: %q was never shown; the screen:\n%s", n+1, text, screen.all())
			}
		case "send":
			_, err := tty.WriteString(text)
			ts.Check(err)
		case "resize":
			var rows, cols uint16
			_, err := fmt.Sscan(rest, &rows, &cols)
			ts.Check(err)
			ts.Check(pty.Setsize(tty, &pty.Winsize{Rows: rows, Cols: cols}))
		case "exit":
			select {
			case <-exited:
				if code := fmt.Sprint(cmd.ProcessState.ExitCode()); code != rest {
					ts.Fatalf("exit status %s, want %s; the screen:\n%s", code, rest, screen.all())
				}
			case <-time.After(20 * time.Second):
				ts.Fatalf("line %d: the program hasn't ended; the screen:\n%s", n+1, screen.all())
			}
		default:
			ts.Fatalf("line %d: no step %q", n+1, verb)
		}
	}
}

// screen is what a program has shown so far.
type screen struct {
	mu   sync.Mutex
	text string
	seen int // up to here it has been expected
}

func (s *screen) read(tty *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := tty.Read(buf)
		s.mu.Lock()
		s.text += string(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) wait(text string, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		at := strings.Index(s.text[s.seen:], text)
		if at >= 0 {
			s.seen += at + len(text)
		}
		s.mu.Unlock()
		if at >= 0 {
			return true
		}
	}
	return false
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}
