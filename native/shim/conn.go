package shim

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is one end of a daemon's connection with a shim: a unix socket of packets,
// which can carry descriptors (unix(7), SCM_RIGHTS).
type Conn struct{ f *os.File }

// maxPacket is more than any program needs, and less than a socket's buffer.
const maxPacket = 128 << 10

// maxFiles is the kernel's limit for one packet (SCM_MAX_FD).
const maxFiles = 253

// Message is one packet.
type Message struct {
	Kind    Kind
	Header  []byte // JSON
	Program []byte // of Start and Exec
	Files   []int  // descriptors; whoever receives them closes them
}

// Kind is a message's.
type Kind byte

// From a daemon to a shim, and back.
const (
	Start      Kind = iota + 1 // StartOrder, the program, its files behind the socket to listen on
	Exec                       // ExecOrder, the program, its files
	CloseStdin                 // no more input

	Started    // StartedNote; files: a pidfd, and the input or the terminal if there is one
	Failed     // FailedNote
	Exited     // ExitNote
	Gone       // nothing: the kernel has none of the container's mounts any more; the shim is idle
	ExecStart  // ExecNote; files: a pidfd
	ExecFailed // FailedNote
	ExecExited // ExecNote
)

// StartOrder makes a shim a container's.
type StartOrder struct {
	Dir        string // the container's folder
	Stdin      bool   // it has an input
	Terminal   bool
	Rows, Cols uint16
	IDs        *IDMap `json:",omitempty"` // of a new user namespace
	Other      *Other `json:",omitempty"` // it makes the container, and there is no program
}

// ExecOrder starts a further process.
type ExecOrder struct{ ID uint64 }

// StartedNote says what the shim has.
type StartedNote struct{ Pid int }

// FailedNote says which call of a program failed.
type FailedNote struct {
	ID    uint64 `json:",omitempty"` // of the exec
	Call  string
	Errno unix.Errno
}

// ExitNote says how the container's first process ended.
type ExitNote struct {
	Status unix.WaitStatus
	At     time.Time
	Lost   string `json:",omitempty"` // why output was lost
}

// ExecNote is about a further process.
type ExecNote struct {
	ID     uint64
	Pid    int             `json:",omitempty"`
	Status unix.WaitStatus `json:",omitempty"`
}

// NewConn takes over a socket.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return &Conn{os.NewFile(uintptr(fd), "shim")}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.f.Close() }

// Send sends a message whose header is v, in one packet. The files stay the
// caller's.
func (c *Conn) Send(kind Kind, v any, program []byte, files ...int) error {
	header, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b := append(make([]byte, 0, 1+binary.MaxVarintLen64+len(header)+len(program)), byte(kind))
	b = binary.AppendUvarint(b, uint64(len(header)))
	b = append(append(b, header...), program...)
	if len(b) > maxPacket {
		return fmt.Errorf("an order of %d bytes is too long for a shim", len(b))
	}
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	werr := raw.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), b, rights, nil, unix.MSG_NOSIGNAL)
		return err != unix.EAGAIN
	})
	return errors.Join(werr, err)
}

// Receive waits for the next message. io.EOF: the other side has gone.
func (c *Conn) Receive() (m Message, err error) {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return m, err
	}
	var n, oobn int
	var buf, oob []byte
	rerr := raw.Read(func(fd uintptr) bool {
		// Who waits holds no buffer: a daemon waits for all its shims.
		if n, _, err = unix.Recvfrom(int(fd), nil, unix.MSG_PEEK|unix.MSG_TRUNC); err != nil {
			return err != unix.EAGAIN
		}
		buf, oob = make([]byte, n), make([]byte, unix.CmsgSpace(4*maxFiles))
		n, oobn, _, _, err = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN
	})
	if err := errors.Join(rerr, err); err != nil {
		return m, err
	}
	if n == 0 {
		return m, io.EOF
	}
	if oobn > 0 {
		cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return m, err
		}
		for i := range cmsgs {
			fds, err := unix.ParseUnixRights(&cmsgs[i])
			if err != nil {
				return m, err
			}
			m.Files = append(m.Files, fds...)
		}
	}
	size, k := binary.Uvarint(buf[1:n])
	if k <= 0 || size > uint64(n-1-k) {
		CloseAll(m.Files)
		return m, errors.New("a broken message")
	}
	m.Kind = Kind(buf[0])
	m.Header, m.Program = buf[1+k:1+k+int(size)], buf[1+k+int(size):n]
	return m, nil
}

// Named calls f with a name for a unix socket in a folder, which leads through the
// folder's descriptor: a socket's path has 107 bytes (unix(7)).
func Named(dir, file string, f func(name string) error) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), file))
}

// Read reads the header.
func (m *Message) Read(v any) error { return json.Unmarshal(m.Header, v) }

// CloseAll closes descriptors.
func CloseAll(files []int) {
	for _, fd := range files {
		_ = unix.Close(fd)
	}
}
