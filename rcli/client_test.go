package rcli

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

// What a server must not send is an error of the client, and a clear one.
func TestMalformedAnswer(t *testing.T) {
	const exit0 = "\x03\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00"
	for _, row := range []struct {
		name, answer, want string
		is                 error
	}{
		{"nothing", "", "ended before the exit status", ErrLost},
		{"no exit status", "\x01\x00\x00\x00\x00\x00\x00\x01a", "ended before the exit status", ErrLost},
		{"a cut header", "\x01\x00\x00\x00\x00", "5 bytes into a frame's header", ErrProtocol},
		{"a cut payload", "\x01\x00\x00\x00\x00\x00\x00\x09abc", "3 bytes into a frame (stdout) of 9", ErrProtocol},
		{"too big", "\x02\x00\x00\x00\x00\x10\x00\x01", "of 1048577 bytes", ErrProtocol},
		{"a daemon of 2013", "flag provided but not defined: -framed\n", `not framed: "flag provided`, ErrProtocol},
		{"a client's frame", "\x00\x00\x00\x00\x00\x00\x00\x00", "(stdin) that no server sends", ErrProtocol},
		{"an exit status of 8 bytes", "\x03\x00\x00\x00\x00\x00\x00\x0812345678", "it has 4", ErrProtocol},
		{"an exit status of 256", "\x03\x00\x00\x00\x00\x00\x00\x04\x00\x00\x01\x00", "exit status 256", ErrProtocol},
		{"two errors", "\x04\x00\x00\x00\x00\x00\x00\x01a\x04\x00\x00\x00\x00\x00\x00\x01b" + exit0, "after the error", ErrProtocol},
		{"an error without exit status", "\x04\x00\x00\x00\x00\x00\x00\x01a", "ended before the exit status", ErrLost},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := receive(bufio.NewReader(strings.NewReader(row.answer)), Answer{Stdout: io.Discard, Stderr: io.Discard})
			if !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %v with %q", err, row.is, row.want)
			}
		})
	}
}

// A full disk on the client's side is told from a broken connection.
func TestAnswerNotWritten(t *testing.T) {
	full := errors.New("no space left")
	r := bufio.NewReader(strings.NewReader("\x01\x00\x00\x00\x00\x00\x00\x01a"))
	err := receive(r, Answer{Stdout: failing{full}, Stderr: io.Discard})
	if !errors.Is(err, full) || errors.Is(err, ErrLost) || err.Error() != "write stdout: no space left" {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestEncodeCall(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		want string // "": refused
	}{
		{"the reference's", []string{"run", "-a", "base", "/bin/echo", "hi"}, `["run","-a","base","/bin/echo","hi"]` + "\n"},
		{"nothing", nil, "[]\n"},
		{"for people to read", []string{"sh", "-c", "a && b > c"}, `["sh","-c","a && b > c"]` + "\n"},
		{"a newline", []string{"a\nb"}, `["a\nb"]` + "\n"},
		{"NUL", []string{"a\x00"}, ""},
		{"not UTF-8", []string{"\xff"}, ""},
		{"too long", []string{strings.Repeat("x", MaxLine)}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := EncodeCall(row.args)
			if string(got) != row.want || (err == nil) != (row.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, row.want)
			}
		})
	}
}
