package dockerd2013

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSocket is where the daemon on the default port listens too.
const DefaultSocket = "/run/docker2013.sock"

// ListenSocket listens on a unix socket, which only root, and this daemon's user,
// may call through: its file is closed to others, and the kernel tells who is at
// the other end (unix(7), SO_PEERCRED). Close removes the file.
func ListenSocket(path string, log *slog.Logger) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen on %s: another daemon has it: choose another with --socket", path)
	}
	// Nobody answers: it is of a daemon that was killed.
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("listen on %s: it is there, and not a socket: choose another with --socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", path, err)
		}
	}
	old := unix.Umask(0o117) // 0660 from its first moment on
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &known{l.(*net.UnixListener), log}, nil
}

// known accepts those whom we know.
type known struct {
	*net.UnixListener
	log *slog.Logger
}

func (k *known) Accept() (net.Conn, error) {
	for {
		conn, err := k.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peer(conn)
		if err == nil && (who.Uid == 0 || int(who.Uid) == os.Geteuid()) {
			return conn, nil
		}
		k.log.Warn("a call on the socket was refused", "uid", who.Uid, "pid", who.Pid, "err", err)
		go refuse(conn, who.Uid)
	}
}

// refuse says why, when the call has been sent: before, nobody listens.
func refuse(conn *net.UnixConn, uid uint32) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = conn.Read(make([]byte, 4096))
	_, _ = fmt.Fprintf(conn, "Error: user %d may not call this daemon: be root\n", uid)
}

// peer is who connected, as the kernel noted then.
func peer(conn *net.UnixConn) (who unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return who, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var c *unix.Ucred
		if c, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			who = *c
		}
	})
	return who, errors.Join(err, cerr)
}
