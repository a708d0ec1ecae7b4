package rcli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// Whatever comes as a call line is refused as a protocol error, or is arguments
// that survive the way back and forth.
func FuzzCall(f *testing.F) {
	for _, seed := range []string{
		`["run","-a","base","/bin/echo","hi"]` + "\n", "[]\n", "null\n", "[null]\n", "[\"\\ud800\"]\n",
		"[\"\\u0000\"]\n", "[\"\xff\"]\n", "[\"-framed\",\"-h\"]\n", "[\"--\"]\n", "[\"-framed=x\"]\n", "[[\n", "", "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		line, err := readLine(bufio.NewReader(bytes.NewReader(data)))
		var args []string
		if err == nil {
			args, err = decodeLine(line)
		}
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		for _, arg := range args {
			if strings.ContainsRune(arg, 0) {
				t.Fatalf("%q: NUL in %q", data, arg)
			}
		}
		again, err := EncodeCall(args)
		if err != nil {
			if len(line) > MaxLine/6 { // escaping makes it longer
				return
			}
			t.Fatal(err)
		}
		back, err := decodeLine(again)
		if err != nil || !slices.Equal(args, back) {
			t.Fatalf("%q became %q, %v", args, back, err)
		}
		if c, err := parseFlags(args, commands{}.Help, io.Discard); err == nil && len(c.Args) == 0 {
			t.Fatalf("%q: no command", args)
		}
	})
}

// Whatever comes as frames is dealt out or refused, on both ends, and never
// keeps more than it may.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		"", "\x00\x00\x00\x00\x00\x00\x00\x03abc\x05\x00\x00\x00\x00\x00\x00\x00",
		"\x06\x00\x00\x00\x00\x00\x00\x04\x00\x18\x00\x50\x07\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x02",
		"\x00\x00\x00\x00\xff\xff\xff\xff", "\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00",
		"\x01\x00\x00\x00\x00\x00\x00\x01a\x02\x00\x00\x00\x00\x00\x00\x01b\x08\x00\x00\x00\x00\x00\x00\x02{}" +
			"\x04\x00\x00\x00\x00\x00\x00\x01c\x03\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x7d",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newInput()
		read := make(chan int64)
		go func() {
			n, _ := io.Copy(io.Discard, in.stdin)
			read <- n
		}()
		err := in.demux(bytes.NewReader(data))
		in.stdin.end(io.ErrUnexpectedEOF) // as the end of the call does
		if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrGone) {
			t.Fatalf("demux: %v", err)
		}
		if n := <-read; n > int64(len(data)) {
			t.Fatalf("%d bytes of stdin out of %d", n, len(data))
		}

		var exit *Exit
		err = receive(bufio.NewReader(bytes.NewReader(data)), Answer{Stdout: io.Discard, Stderr: io.Discard})
		if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrLost) && !errors.As(err, &exit) {
			t.Fatalf("receive: %v", err)
		}
	})
}
