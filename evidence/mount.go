package evidence

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"docker2013/trace"
)

// mountsLimit bounds what is read of mountinfo, and mountLine one line of it:
// options are at most a page, 500 lowerdirs by the new mount API are more.
const (
	mountsLimit = 16 << 20
	mountLine   = 1 << 20
)

// Mount is the line of /proc/self/mountinfo for the file system mounted at
// target, the topmost one if there are several: proc_pid_mountinfo(5).
func Mount(target string) trace.Evidence {
	ev := trace.Evidence{Kind: "mountinfo", From: "/proc/self/mountinfo"}
	f, err := os.Open(ev.From)
	if err != nil {
		ev.Text = unreadable(err)
		return ev
	}
	defer f.Close() // only read from: nothing to lose
	// The kernel shows the true path, whatever links led there.
	path, err := filepath.EvalSymlinks(target)
	if err != nil {
		path = filepath.Clean(target)
	}
	line, err := findMount(io.LimitReader(f, mountsLimit), path)
	switch {
	case err != nil:
		ev.Text = unreadable(err)
	case line == "":
		ev.Text = fmt.Sprintf("nothing is mounted at %s", printable(target))
	default:
		ev.Text = printable(line)
	}
	return ev
}

// findMount returns the last line whose mount point, its fifth field, is
// target: later mounts hide earlier ones. "" means that there is none.
func findMount(mountinfo io.Reader, target string) (line string, err error) {
	scanner := bufio.NewScanner(mountinfo)
	scanner.Buffer(nil, mountLine)
	for scanner.Scan() {
		fields := strings.SplitN(scanner.Text(), " ", 6)
		if len(fields) == 6 && unescape(fields[4]) == target {
			line = scanner.Text()
		}
	}
	return line, scanner.Err()
}

// unescape undoes the octal escapes (\040 is a blank) of a path in mountinfo.
func unescape(path string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(path, `\`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		char, err := uint64(0), error(nil)
		if len(after) >= 3 {
			char, err = strconv.ParseUint(after[:3], 8, 8)
		}
		if len(after) < 3 || err != nil { // not an escape
			b.WriteByte('\\')
			path = after
			continue
		}
		b.WriteByte(byte(char))
		path = after[3:]
	}
}
