package xray

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Filter is what strace is asked to record (-e trace=).
const Filter = "clone,clone3,fork,vfork,unshare,setns,mount,umount2,pivot_root,chroot,chdir,fsopen,fsconfig,fsmount," +
	"move_mount,open_tree,mount_setattr,openat,openat2,write,mkdir,mkdirat,capset,prctl,seccomp,setresuid,setresgid,setuid," +
	"setgid,setgroups,setsid,ioctl,execve,execveat,sethostname,mknod,mknodat,symlink,symlinkat"

// Call is one system call of the record.
type Call struct {
	Pid    int
	Name   string
	Args   []string // as strace writes them; descriptors with what they are: 3</proc>
	Result string   // "0", "15145", "3</proc>", "-1 ENOENT (No such file or directory)"
}

// OK reports whether it succeeded.
func (c *Call) OK() bool { return !strings.HasPrefix(c.Result, "-1") && c.Result != "?" }

// arg is an argument, "" if there are not so many.
func (c *Call) arg(i int) string {
	if i >= len(c.Args) {
		return ""
	}
	return c.Args[i]
}

// text is a string argument without its quotes.
func (c *Call) text(i int) string { return unquote(c.arg(i)) }

func unquote(s string) string {
	if t, err := strconv.Unquote(strings.TrimSuffix(s, "...")); err == nil {
		return t
	}
	return strings.Trim(s, `"`)
}

// path is what strace says that a descriptor is: "3</proc>" is /proc.
func descriptorPath(s string) string {
	if _, rest, ok := strings.Cut(s, "<"); ok {
		return strings.TrimSuffix(strings.TrimSuffix(rest, "(deleted)"), ">")
	}
	return ""
}

// number is the number before a descriptor's path, or of a process.
func number(s string) int {
	s, _, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, " ")
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// Parse reads what strace -f -y wrote: calls in the order of their ends. Signals and
// exits are left out.
func Parse(r io.Reader) ([]Call, error) {
	// Here, because the client that links this package has to start in a millisecond.
	whole := regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (.*)$`)
	unfinished := regexp.MustCompile(`^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$`)
	resumed := regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (.*)$`)
	var calls []Call
	begun := map[string]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := unfinished.FindStringSubmatch(line); m != nil {
			begun[m[1]] = strings.TrimSpace(m[3])
			continue
		}
		m := resumed.FindStringSubmatch(line)
		if m != nil {
			m[3] = begun[m[1]] + strings.TrimPrefix(m[3], " ")
			delete(begun, m[1])
		} else if m = whole.FindStringSubmatch(line); m == nil {
			continue
		}
		pid, _ := strconv.Atoi(m[1])
		calls = append(calls, Call{Pid: pid, Name: m[2], Args: split(m[3]), Result: strings.TrimSpace(m[4])})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read strace's record: %w", err)
	}
	return calls, nil
}

// split splits arguments at the commas that are in no string, structure or list.
func split(s string) []string {
	var args []string
	depth, start, quoted := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case c == ',' && depth == 0:
			args = append(args, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	if rest := strings.TrimSpace(s[start:]); rest != "" {
		args = append(args, rest)
	}
	return args
}
