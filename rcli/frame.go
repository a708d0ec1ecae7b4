package rcli

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// MaxPayload is the most bytes the payload of a frame may have.
const MaxPayload = 1 << 20

// chunk is how much of a stream goes into one frame: big enough to be cheap,
// small enough for stdout and stderr to take turns.
const chunk = 64 << 10

// kind is a frame's type, its first byte.
type kind byte

// To the server: stdin, endOfStdin, window, signal. To the client: the others.
const (
	kindStdin      kind = 0
	kindStdout     kind = 1
	kindStderr     kind = 2
	kindExit       kind = 3
	kindError      kind = 4
	kindEndOfStdin kind = 5
	kindWindow     kind = 6
	kindSignal     kind = 7
	kindEvent      kind = 8
)

func (k kind) String() string {
	names := [...]string{"stdin", "stdout", "stderr", "exit status", "error",
		"end of stdin", "window size", "signal", "trace event"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("type %d", byte(k))
}

// readHeader reads a frame's header. The error is io.EOF where the stream ends
// before it, ErrProtocol where it ends in it or it is none.
func readHeader(r io.Reader) (k kind, size int, err error) {
	var head [8]byte
	if n, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, 0, protocolError("the connection ended %d bytes into a frame's header", n)
		}
		return 0, 0, err
	}
	k = kind(head[0])
	if head[1] != 0 || head[2] != 0 || head[3] != 0 {
		return k, 0, protocolError("bytes 1 to 3 of a frame's header are not zero: % x", head)
	}
	length := binary.BigEndian.Uint32(head[4:])
	if length > MaxPayload {
		return k, 0, protocolError("a frame (%v) of %d bytes; at most %d are allowed", k, length, MaxPayload)
	}
	return k, int(length), nil
}

// readPayload fills p with a frame's payload.
func readPayload(r io.Reader, k kind, p []byte) error {
	n, err := io.ReadFull(r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return protocolError("the connection ended %d bytes into a frame (%v) of %d", n, k, len(p))
	}
	return err
}

// readUint32 reads the payload of a frame that is one number.
func readUint32(r io.Reader, k kind, size int) (uint32, error) {
	if size != 4 {
		return 0, protocolError("a frame (%v) of %d bytes; it has 4", k, size)
	}
	var p [4]byte
	if err := readPayload(r, k, p[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(p[:]), nil
}

// errEnded is the error of a write after the end of the call.
var errEnded = errors.New("the call has ended")

// frameWriter sends whole frames, for several goroutines.
type frameWriter struct {
	w io.Writer // a net.Conn, for writev(2)

	mu   sync.Mutex
	head [8]byte
	vec  [2][]byte
	bufs net.Buffers
	err  error // no frame can follow: the last was cut, or was the last
}

// frame sends one frame; payload has at most MaxPayload bytes.
func (f *frameWriter) frame(k kind, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frameLocked(k, payload)
}

func (f *frameWriter) frameLocked(k kind, payload []byte) error {
	if f.err != nil {
		return f.err
	}
	f.head = [8]byte{byte(k)}
	binary.BigEndian.PutUint32(f.head[4:], uint32(len(payload)))
	f.vec = [2][]byte{f.head[:], payload}
	f.bufs = f.vec[:]
	n, err := f.bufs.WriteTo(f.w)
	f.vec[1] = nil // the payload is the caller's
	if err != nil && n > 0 {
		f.err = err // a deadline that strikes before the first byte spoils nothing
	}
	return err
}

// stream sends p as frames of one kind.
func (f *frameWriter) stream(k kind, p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(n+chunk, len(p))]
		if err := f.frame(k, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// last sends the end of a call: text in an error frame unless it is "", then
// the exit status. No frame can follow.
func (f *frameWriter) last(text string, status uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text != "" {
		if err := f.frameLocked(kindError, []byte(text[:min(len(text), MaxPayload)])); err != nil {
			return err
		}
	}
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], status)
	if err := f.frameLocked(kindExit, p[:]); err != nil {
		return err
	}
	f.err = errEnded
	return nil
}
