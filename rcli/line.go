package rcli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxLine is the most bytes a call line may have, its newline included.
const MaxLine = 1 << 20

// ErrProtocol is in every error about bytes that break the protocol.
var ErrProtocol = errors.New("protocol error")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
}

// readLine reads the call line, newline included, and nothing behind it.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxLine {
			return nil, protocolError("the call line is longer than %d bytes", MaxLine)
		}
		line = append(line, part...)
		switch err {
		case nil:
			return line, nil
		case bufio.ErrBufferFull: // more to come
		case io.EOF:
			return nil, protocolError("the connection ended before the call line's newline")
		default:
			return nil, err
		}
	}
}

// decodeLine reads the arguments out of a call line.
func decodeLine(line []byte) ([]string, error) {
	// encoding/json would quietly put U+FFFD in the place of what isn't text,
	// and something else would run than was asked for.
	if !utf8.Valid(line) {
		return nil, protocolError("the call line is not valid UTF-8")
	}
	var raw []*string // pointers, to tell null from ""
	if err := json.Unmarshal(line, &raw); err != nil {
		return nil, protocolError("the call line is not a JSON array of strings: %w", err)
	}
	if raw == nil {
		return nil, protocolError("the call line is null, not a JSON array of strings")
	}
	if hasLoneSurrogate(line) {
		return nil, protocolError("the call line escapes half a surrogate pair, which is not valid text")
	}
	args := make([]string, len(raw))
	for i, s := range raw {
		if s == nil {
			return nil, protocolError("argument %d is null, not a string", i)
		}
		args[i] = *s
	}
	if err := CheckArgs(args); err != nil {
		return nil, err
	}
	return args, nil
}

// hasLoneSurrogate reports whether valid JSON has a \uD8xx without its \uDCxx,
// or the other way round.
func hasLoneSurrogate(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return false
		}
		text = text[i:]
		r, ok := unicodeEscape(text)
		switch {
		case !ok:
			text = text[2:] // \n, \\, …
		case !utf16.IsSurrogate(r):
			text = text[6:]
		default:
			low, ok := unicodeEscape(text[6:])
			if !ok || utf16.DecodeRune(r, low) == utf8.RuneError {
				return true
			}
			text = text[12:]
		}
	}
}

// unicodeEscape reads the \uXXXX that text begins with.
func unicodeEscape(text []byte) (r rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for _, c := range text[2:6] {
		digit := strings.IndexByte("0123456789abcdef", c|0x20) // lower case; digits keep their value
		if digit < 0 {
			return 0, false
		}
		r = r<<4 | rune(digit)
	}
	return r, true
}

// CheckArgs reports arguments that no wire can carry to execve(2): those with a
// NUL byte, and those that are not UTF-8.
func CheckArgs(args []string) error {
	for i, arg := range args {
		switch {
		case strings.IndexByte(arg, 0) >= 0:
			return protocolError("argument %d has a NUL byte", i)
		case !utf8.ValidString(arg):
			return protocolError("argument %d is not valid UTF-8", i)
		}
	}
	return nil
}

// EncodeCall makes the call line of the arguments, newline included. It fails
// where the server would refuse the line.
func EncodeCall(args []string) ([]byte, error) {
	if err := CheckArgs(args); err != nil {
		return nil, err
	}
	if args == nil {
		args = []string{}
	}
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false) // a line for people to read: & stays &
	if err := e.Encode(args); err != nil {
		return nil, fmt.Errorf("encode call: %w", err)
	}
	if line.Len() > MaxLine {
		return nil, protocolError("the call line is longer than %d bytes", MaxLine)
	}
	return line.Bytes(), nil
}
