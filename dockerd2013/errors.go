package dockerd2013

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/images"
	"docker2013/rcli"
)

// noSuchError is an answer of 2013: "No such container: NAME".
type noSuchError struct{ what, name string }

func (e *noSuchError) Error() string { return fmt.Sprintf("No such %s: %s", e.what, e.name) }

// noSuch is that answer. What is one of "command", "container", "image",
// "container or image".
func noSuch(what, name string) error { return &noSuchError{what, name} }

// advise says in a second line what can be done about err. The raw wire's answers
// are those of 2013, and have none.
func (d *Daemon) advise(err error) error {
	if advice := d.advice(err); advice != "" {
		return fmt.Errorf("%w\n%s", err, advice)
	}
	return err
}

// advice is that line, if there is one.
func (d *Daemon) advice(err error) string {
	if e, ok := errors.AsType[*noSuchError](err); ok {
		return d.whatThereIs(e)
	}
	if e, ok := errors.AsType[*container.StartError](err); ok && e.Code == 127 {
		if strings.HasPrefix(e.Text, "-") {
			return "Flags stand before the image: what follows it is the command."
		}
		return "See what is there: docker2013 ls CONTAINER /bin"
	}
	switch {
	case errors.Is(err, container.ErrRunning):
		return "Watch it: docker2013 attach CONTAINER. Or end it first: docker2013 stop CONTAINER"
	case errors.Is(err, container.ErrNotRunning):
		return "Run it again: docker2013 start CONTAINER"
	case errors.Is(err, images.ErrInUse):
		return "See whose it is: docker2013 ps -a. Then remove them: docker2013 rm CONTAINER"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Sprintf("If it is %s that is full, as df -h and df -i tell: docker2013 rm and rmi make room.", d.Root)
	case errors.Is(err, unix.EROFS) && strings.Contains(err.Error(), d.Root): // and not inside a container
		return d.Root + " is on a file system that is read-only: see dmesg why, then remount it."
	case errors.Is(err, unix.EMFILE):
		return "The daemon has as many files open as it may: start it with a higher limit, ulimit -n"
	case errors.Is(err, unix.ENFILE):
		return "This host has as many files open as it may: raise it, sysctl fs.file-max"
	case errors.Is(err, unix.EAGAIN) && strings.Contains(err.Error(), "fork/exec"):
		return "No more processes may be started: raise the limit of the daemon, ulimit -u or its cgroup's pids.max, or end some."
	}
	return ""
}

// whatThereIs is where to look for what isn't there under that name.
func (d *Daemon) whatThereIs(e *noSuchError) string {
	switch {
	case e.what == "container" && d.Images.Find(e.name) != nil:
		return fmt.Sprintf("That is an image. Make a container of it: docker2013 run %s", e.name)
	case e.what == "image" && d.Containers.Get(e.name) != nil:
		return fmt.Sprintf("That is a container. Run it again: docker2013 start %s. Make an image of it: docker2013 commit %[1]s NAME", e.name)
	case e.what == "image" && d.Images.Len() == 0:
		return "There is none yet. Make one: docker2013 pull base"
	case e.what == "image":
		return "See what there is: docker2013 images"
	case e.what == "container":
		return "See what there is: docker2013 ps -a"
	case e.what == "container or image":
		return "See what there is: docker2013 ps -a, docker2013 images"
	}
	return ""
}

// find finds a container.
func (d *Daemon) find(name string) (*container.Container, error) {
	if c := d.Containers.Get(name); c != nil {
		return c, nil
	}
	if n := d.Containers.Fitting(name); n > 1 {
		return nil, fmt.Errorf("%s: %d containers' ids begin so: say more of it", name, n)
	}
	return nil, noSuch("container", name)
}

// each calls f for every named container, in order. The first name that isn't
// one ends it, as in 2013.
func (d *Daemon) each(names []string, f func(*container.Container) error) error {
	for _, name := range names {
		c, err := d.find(name)
		if err != nil {
			return err
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// ended is the answer to a call that has watched a container end: its exit
// code, and a text only if the code is not the program's own.
func ended(code int, err error) error {
	if se, ok := errors.AsType[*container.StartError](err); ok {
		return &rcli.Exit{Code: se.Code, Err: se}
	}
	if err != nil {
		if code == 0 {
			code = rcli.StatusOurs
		}
		return &rcli.Exit{Code: code, Err: err}
	}
	if code != 0 {
		return &rcli.Exit{Code: code}
	}
	return nil
}
