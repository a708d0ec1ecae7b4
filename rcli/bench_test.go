package rcli

import (
	"context"
	"io"
	"testing"
)

// BenchmarkStreams is what the wires carry, in 32 KiB writes.
func BenchmarkStreams(b *testing.B) {
	service := commands{
		"sink": func(_ context.Context, c *Call) error { _, err := io.Copy(io.Discard, c.Stdin); return err },
		"source": func(_ context.Context, c *Call) error {
			_, err := io.CopyN(c.Stdout, endless{}, 64<<20)
			return err
		},
	}
	addr := listen(b, &Server{Service: service})
	for _, wire := range []string{"raw", "framed"} {
		for _, command := range []string{"sink", "source"} {
			b.Run(wire+"/"+command, func(b *testing.B) {
				b.SetBytes(64 << 20)
				for b.Loop() {
					if wire == "raw" {
						conn := call(b, addr, command)
						if command == "sink" {
							io.CopyN(conn, endless{}, 64<<20)
						}
						conn.CloseWrite()
						io.Copy(io.Discard, conn)
						conn.Close()
						continue
					}
					s := NewSession(call(b, addr, "-framed", command))
					if command == "sink" {
						io.CopyN(s.Stdin, endless{}, 64<<20)
					}
					s.Stdin.Close()
					if err := s.Receive(Answer{Stdout: io.Discard, Stderr: io.Discard}); err != nil {
						b.Fatal(err)
					}
					s.conn.(*Conn).Close()
				}
			})
		}
	}
}

// BenchmarkCall is a call that does nothing, from dial to exit status.
func BenchmarkCall(b *testing.B) {
	addr := listen(b, &Server{Service: commands{"nothing": func(context.Context, *Call) error { return nil }}})
	for b.Loop() {
		conn := call(b, addr, "-framed", "nothing")
		if err := NewSession(conn).Receive(Answer{Stdout: io.Discard, Stderr: io.Discard}); err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}
