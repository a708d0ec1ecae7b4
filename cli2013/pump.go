package cli2013

import (
	"fmt"
	"io"
)

// pump sends r, then the end of input, on a goroutine of its own. What comes
// out is the error of reading r: the call must not pass for one whose input
// was complete. An error of the wire is for the receiving side to tell.
//
// Without r it sends nothing, no end either: before the end of input, the
// daemon notices at once when the client goes away.
func pump(tty *terminal, stdin io.WriteCloser, r io.Reader) <-chan error {
	failed := make(chan error, 1)
	if r == nil {
		return failed
	}
	go tty.guard(func() {
		src := &source{r: r}
		io.CopyBuffer(stdin, src, make([]byte, 64<<10))
		if src.err != nil {
			failed <- fmt.Errorf("read the input: %w", src.err)
			return
		}
		stdin.Close()
	})
	return failed
}

// source is a reader that remembers its error.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
