package container

import "errors"

// What a caller can act on. The daemon makes the texts of 2013 from them.
var (
	ErrMounted    = errors.New("file system already mounted")
	ErrNotMounted = errors.New("file system not mounted")
	ErrRunning    = errors.New("it is running")
	ErrNotRunning = errors.New("it is not running")
	ErrPaused     = errors.New("it is paused")
	ErrNotPaused  = errors.New("it is not paused")
	ErrRemoved    = errors.New("it has been removed")
	ErrUnseen     = errors.New("it ended while no daemon was there to see it")
)

// ErrCantRun is what is wrong with options that no container can have here.
// Nothing has been created.
var ErrCantRun = errors.New("can't be run here")

// cantRun marks such an error, whose own text says all.
type cantRun struct{ error }

func (e cantRun) Unwrap() error        { return e.error }
func (e cantRun) Is(target error) bool { return target == ErrCantRun }
