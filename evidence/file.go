package evidence

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"docker2013/trace"
)

// fileLimit is the most that is read of one file, in bytes. A rendered
// configuration has some 3 KB, /proc/PID/status some 1.5 KB.
const fileLimit = 64 << 10

// File is the text of a regular file, the first 64 KiB of it. Its kind is the
// file's name: "config.lxc".
func File(path string) trace.Evidence {
	return read(filepath.Base(path), path)
}

// read makes a file's text an Evidence.
func read(kind, path string) trace.Evidence {
	ev := trace.Evidence{Kind: kind, From: path}
	data, cut, err := readRegular(path, fileLimit)
	switch {
	case err != nil:
		ev.Text = unreadable(err)
	case cut:
		ev.Text = printable(string(data)) + "\n… and more"
	default:
		ev.Text = printable(string(data))
	}
	return ev
}

// readRegular reads at most limit bytes, and says whether there were more. It
// neither follows a symbolic link in the last place nor waits for a pipe's
// other end.
func readRegular(path string, limit int64) (data []byte, cut bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, err
	}
	defer f.Close() // only read from: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if !info.Mode().IsRegular() {
		return nil, false, fmt.Errorf("not a regular file but %s", info.Mode().Type())
	}
	data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, false, err
	}
	if int64(len(data)) > limit {
		return data[:limit], true, nil
	}
	return data, false, nil
}

// gone reports whether err says that a file, or the process a file of /proc is
// about, isn't there any more.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

func unreadable(err error) string {
	if gone(err) {
		return "not there any more"
	}
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err // the path is in Evidence.From
	}
	return "can't be read: " + printable(err.Error())
}

// printable writes control characters, which could drive the reader's
// terminal, the way Go source does.
func printable(s string) string {
	clean := func(r rune) bool {
		return r == '\n' || r == '\t' || !unicode.IsControl(r) && r != unicode.ReplacementChar
	}
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case clean(r):
			b.WriteRune(r)
		case r == unicode.ReplacementChar: // a byte that isn't UTF-8
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	return b.String()
}

// commonParent is the deepest directory that all paths are below.
func commonParent(paths []string) string {
	parent := filepath.Dir(paths[0])
	for _, p := range paths[1:] {
		for parent != "/" && parent != "." && !strings.HasPrefix(p, parent+"/") {
			parent = filepath.Dir(parent)
		}
	}
	return parent
}
