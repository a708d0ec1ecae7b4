package doctor

import (
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// gatherPort tries to listen on an address and, where that fails, looks for the
// process that does.
func gatherPort(flag, addr string) Port {
	p := Port{Flag: flag, Addr: addr}
	l, err := net.Listen("tcp", addr)
	if err == nil {
		err = l.Close()
	}
	switch {
	case err == nil:
		return p
	case errors.Is(err, syscall.EADDRINUSE):
		p.Err = "in use"
		p.Holder, p.PID = holder(addr)
	default:
		p.Err = err.Error()
		if opError, ok := errors.AsType[*net.OpError](err); ok {
			p.Err = opError.Err.Error()
		}
	}
	return p
}

// holder finds the process that listens on the port of an address: the socket's
// inode is in /proc/net/tcp, and among the open files of its process. Another
// user's open files can only be seen by root.
func holder(addr string) (name string, pid int) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return "", 0
	}
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(table)
		if err != nil {
			continue // without IPv6 there is no tcp6
		}
		for _, inode := range listeners(string(data), number) {
			sockets["socket:["+inode+"]"] = true
		}
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well-formed
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !sockets[target] {
			continue
		}
		process := filepath.Dir(filepath.Dir(fd))
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil {
			continue
		}
		return line(filepath.Join(process, "comm")), pid
	}
	return "", 0
}

// listeners finds the inodes of the sockets that listen on a port in a table as
// of /proc/net/tcp: the second column is ADDRESS:PORT in hex, the fourth the
// state (0A: listen), the tenth the inode. proc_pid_net(5).
func listeners(table string, port int) []string {
	want := ":" + strings.ToUpper(hex.EncodeToString([]byte{byte(port >> 8), byte(port)}))
	var inodes []string
	for line := range strings.Lines(table) {
		column := strings.Fields(line)
		if len(column) >= 10 && strings.HasSuffix(column[1], want) && column[3] == "0A" {
			inodes = append(inodes, column[9])
		}
	}
	return inodes
}
