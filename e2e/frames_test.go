package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdFrames is a framed client made by hand, from the words of rcli's
// specification alone. It sends what each line of the file says:
//
//	call ["run","base"]      the line, as it is, with -framed put in front
//	send 0 text              a frame of this type; \n and \xNN are what Go means by them
//	head 0 99                only a header, of this type and length
//	bytes \x00\x01           no frame at all
//	await 1 REGEXP           reads frames until the text of this type has a match
//	close                    hangs up
//
// Then it reads to the end. The frames become stdout, a line each: type and
// text, with those of one type that follow each other as one.
func cmdFrames(ts *testscript.TestScript, neg bool, args []string) {
	conn, err := net.Dial("tcp", theDaemon(ts).tcp)
	ts.Check(err)
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(30 * time.Second)))
	c := &frameClient{conn: conn}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		ts.Check(c.do(os.Expand(line, func(name string) string { return ts.Getenv(name) })))
	}
	if err := c.rest(); err != nil && !errors.Is(err, net.ErrClosed) {
		ts.Fatalf("after %q: %v", c.seen, err)
	}
	for _, f := range c.seen {
		fmt.Fprintf(ts.Stdout(), "%d %s\n", f.kind, f.String())
	}
}

type seenFrame struct {
	kind byte
	text string
}

func (f seenFrame) String() string {
	if f.kind == 3 && len(f.text) == 4 {
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32([]byte(f.text))), 10)
	}
	return strconv.Quote(f.text)
}

type frameClient struct {
	conn net.Conn
	seen []seenFrame
}

func (c *frameClient) do(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "call":
		_, err := io.WriteString(c.conn, strings.Replace(rest, "[", `["-framed",`, 1)+"\n")
		return err
	case "send":
		kind, text, _ := strings.Cut(rest, " ")
		payload, err := strconv.Unquote(`"` + text + `"`)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if err := c.head(kind, strconv.Itoa(len(payload))); err != nil {
			return err
		}
		_, err = io.WriteString(c.conn, payload)
		return err
	case "head":
		kind, size, _ := strings.Cut(rest, " ")
		return c.head(kind, size)
	case "bytes":
		text, err := strconv.Unquote(`"` + rest + `"`)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		_, err = io.WriteString(c.conn, text)
		return err
	case "await":
		kind, expr, _ := strings.Cut(rest, " ")
		re, err := regexp.Compile(expr)
		if err != nil {
			return err
		}
		for !re.MatchString(c.text(kind[0] - '0')) {
			if err := c.read(); err != nil {
				return fmt.Errorf("%s: %w, after %q", line, err, c.seen)
			}
		}
		return nil
	case "close":
		return c.conn.Close()
	}
	return fmt.Errorf("%s: no such verb", line)
}

func (c *frameClient) head(kind, size string) error {
	k, err := strconv.ParseUint(kind, 10, 8)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(size, 10, 32)
	if err != nil {
		return err
	}
	_, err = c.conn.Write(binary.BigEndian.AppendUint32([]byte{byte(k), 0, 0, 0}, uint32(n)))
	return err
}

func (c *frameClient) read() error {
	var head [8]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return err
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[4:]))
	if _, err := io.ReadFull(c.conn, payload); err != nil {
		return err
	}
	last := len(c.seen) - 1
	if last >= 0 && c.seen[last].kind == head[0] && head[0] != 8 {
		c.seen[last].text += string(payload)
	} else {
		c.seen = append(c.seen, seenFrame{head[0], string(payload)})
	}
	return nil
}

func (c *frameClient) rest() error {
	for {
		if err := c.read(); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

func (c *frameClient) text(kind byte) string {
	var b strings.Builder
	for _, f := range c.seen {
		if f.kind == kind {
			b.WriteString(f.text)
		}
	}
	return b.String()
}

// cmdServe serves a folder by HTTP until the scenario ends, and sets $FILES to
// its address:
//
//	serve FOLDER
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(s.Close)
	ts.Setenv("FILES", s.URL)
}

// cmdEvents follows /api/events while a client command runs, and prints what
// came:
//
//	events run base /bin/true
func cmdEvents(ts *testscript.TestScript, neg bool, args []string) {
	resp, err := http.Get("http://" + theDaemon(ts).http + "/api/events")
	ts.Check(err)
	defer resp.Body.Close()
	came := make(chan string)
	go func() {
		var b strings.Builder
		buf := make([]byte, 64<<10)
		for {
			n, err := resp.Body.Read(buf)
			b.Write(buf[:n])
			if err != nil || strings.Contains(b.String(), `"step":"container.cleanup"`) {
				came <- b.String()
				return
			}
		}
	}()
	ts.Check(ts.Exec("docker2013", args...))
	select {
	case text := <-came:
		fmt.Fprintf(ts.Stdout(), "%s\n%s", resp.Header.Get("Content-Type"), text)
	case <-time.After(20 * time.Second):
		ts.Fatalf("container.cleanup never came")
	}
}
