package evidence

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"docker2013/trace"
)

// proc is the path of a process's file: /proc/PID/NAME. A pid is one of the
// reader's own PID namespace.
func proc(pid int, name string) string {
	return fmt.Sprintf("/proc/%d/%s", pid, name)
}

func ended(pid int) string { return fmt.Sprintf("process %d has ended", pid) }

// ofProcess reads a file of a process.
func ofProcess(kind string, pid int, name string) trace.Evidence {
	path := proc(pid, name)
	ev := read(kind, path)
	if _, err := os.Lstat(path); err != nil && gone(err) {
		ev.Text = ended(pid)
	}
	return ev
}

// Namespaces compares the namespaces of a process with our own: a line for
// each with its name, the process's inode, ours, and "same" or "different". Two
// processes are in the same namespace when the inodes are equal: namespaces(7).
func Namespaces(pid int) trace.Evidence {
	dir := proc(pid, "ns")
	ev := trace.Evidence{Kind: "namespaces", From: dir}
	names, err := os.ReadDir("/proc/self/ns")
	if err != nil {
		ev.Text = unreadable(err)
		return ev
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "name\tprocess %d\thost\n", pid)
	for _, name := range names {
		if strings.HasSuffix(name.Name(), "_for_children") {
			continue // where the next child goes, not where this process is
		}
		theirs, err := namespace(dir, name.Name())
		if err != nil {
			if gone(err) {
				ev.Text = ended(pid)
			} else {
				ev.Text = unreadable(err)
			}
			return ev
		}
		ours, err := namespace("/proc/self/ns", name.Name())
		if err != nil {
			ev.Text = unreadable(err)
			return ev
		}
		verdict := "different"
		if theirs == ours {
			verdict = "same"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", name.Name(), theirs, ours, verdict)
	}
	table.Flush() // into a strings.Builder, which never fails
	ev.Text = b.String()
	return ev
}

// namespace is the inode number in a link such as "mnt:[4026531841]".
func namespace(dir, name string) (string, error) {
	link, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	_, inode, _ := strings.Cut(strings.TrimSuffix(link, "]"), "[")
	return inode, nil
}

// Cgroups is the process's place in every cgroup hierarchy, a line each:
// hierarchy, controllers, path. Hierarchy 0 is cgroup v2: cgroups(7).
func Cgroups(pid int) trace.Evidence {
	return ofProcess("cgroups", pid, "cgroup")
}

// UserMap is how user ids of the process's user namespace are mapped: first id
// inside, first id outside, how many. "0 0 4294967295" says that root in there
// is root out here: user_namespaces(7).
func UserMap(pid int) trace.Evidence {
	ev := ofProcess("uid_map", pid, "uid_map")
	var lines []string
	for line := range strings.Lines(ev.Text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	ev.Text = strings.Join(lines, "\n")
	return ev
}

// Interfaces is the network interfaces in the process's network namespace with
// their counters: proc_pid_net(5). An empty namespace has just lo.
func Interfaces(pid int) trace.Evidence {
	return ofProcess("interfaces", pid, "net/dev")
}
