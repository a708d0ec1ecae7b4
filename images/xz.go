package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// xz reads an xz stream by running the program of that name: it is the reader
// of the format that bounds the dictionary, and so the memory, for which a
// stream may ask; the format allows 4 GiB.
type xz struct {
	cmd    *exec.Cmd
	stdout io.Reader
	stderr bytes.Buffer
	ended  bool // stdout has been read to its end
	wait   func() error
}

func newXZ(ctx context.Context, r io.Reader) (*xz, error) {
	x := &xz{cmd: exec.CommandContext(ctx, "xz", "--decompress", "--stdout", "--quiet", "--threads=1",
		fmt.Sprintf("--memlimit-decompress=%d", maxWindow))}
	x.cmd.Stdin = r
	x.cmd.Stderr = &x.stderr
	x.cmd.WaitDelay = time.Second // xz may end while r is blocked in a Read
	x.wait = sync.OnceValue(x.cmd.Wait)
	var err error
	if x.stdout, err = x.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("xz: %w", err)
	}
	if err := x.cmd.Start(); errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("the stream is compressed with xz, and the program xz is missing: apt-get install xz-utils")
	} else if err != nil {
		return nil, fmt.Errorf("xz: %w", err)
	}
	return x, nil
}

// Read ends with io.EOF only if xz found nothing wrong with the stream.
func (x *xz) Read(p []byte) (int, error) {
	n, err := x.stdout.Read(p)
	if err == io.EOF {
		x.ended = true
		if err := x.wait(); err != nil {
			return n, fmt.Errorf("xz: %w: %s", err, strings.TrimSpace(x.stderr.String()))
		}
	}
	return n, err
}

// Close ends the program if it still runs. What it thought of the stream was
// Read's to tell.
func (x *xz) Close() error {
	if x.ended {
		return nil
	}
	if err := x.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("xz: %w", err)
	}
	_ = x.wait() // "signal: killed"
	return nil
}
