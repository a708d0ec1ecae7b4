// Package rcli is the wire between the client and the daemon, both ends of it.
// This page is the protocol's specification.
//
// # The call
//
// A connection carries one call. The client sends one line: the arguments as a
// JSON array of strings, then a newline (docker@bba4e36807:rcli/tcp.go:13).
//
//	["run","-a","base","/bin/echo","hi"]\n
//
// The line is at most [MaxLine] bytes long, newline included, and is there within 30 seconds.
// It is valid UTF-8, escapes included, and no argument has a NUL byte, which
// execve(2) could not take. An empty array asks for the command "help".
//
// Arguments before the command's name are flags of the service, read with Go's
// flag package. In 2013 there were none; we use the place for
//
//	-framed    frames instead of raw bytes, in both directions
//	-trace     send the call's trace events (framed only)
//	-progress  the client's stderr is a terminal: progress may be drawn there
//
// An unknown flag, and -h, get the list of commands and an error.
//
// # Raw: the wire of 2013
//
// What follows the line is the command's standard input, as it is; the client
// half-closes the connection (shutdown(2), SHUT_WR) at its end, and the server
// goes on sending. What the server sends is the output, stdout and stderr in
// one stream. A call that fails ends with a line "Error: TEXT". There is no exit
// status, and the end of the connection is the end of the call.
//
//	client                                        server
//	  ── ["run","-a","-i","base","/bin/cat"]\n ────→
//	  ── any bytes ────────────────────────────────→  stdin
//	  ←──────────────────────────────── any bytes ──  stdout and stderr
//	  ── FIN ──────────────────────────────────────→  end of stdin
//	  ←──────────────────────────────── any bytes ──
//	  ←────────────────────────── Error: TEXT\n ────  only if it failed
//	  ←────────────────────────────────────── FIN ──  the end
//
// # Framed
//
// After the line, both directions are frames: a header of 8 bytes, then the
// payload, at most [MaxPayload] bytes of it.
//
//	byte 0    1  2  3    4  5  6  7             8 …
//	┌──────┬───────────┬──────────────────────┬─────────┐
//	│ type │  0  0  0  │ length (big-endian)  │ payload │
//	└──────┴───────────┴──────────────────────┴─────────┘
//
// To the server:
//
//	0  stdin          any bytes
//	5  end of stdin   empty; once
//	6  window size    rows, columns: two big-endian uint16
//	7  signal         its number, 1 to 64: a big-endian uint32
//
// To the client:
//
//	1  stdout         any bytes
//	2  stderr         any bytes
//	3  exit status    a big-endian uint32; the last frame of every call
//	4  error          why the call failed, UTF-8; right before the 3
//	8  trace event    a JSON object; only if -trace was given
//
// One call, with everything that can happen in it:
//
//	client                                        server
//	  ── ["-framed","run","-t","base"]\n ──────────→
//	  ── 6 rows, columns ──────────────────────────→
//	  ←──────────────────────────────── 8 {"seq":…} ─  with -trace
//	  ── 0 bytes ──────────────────────────────────→
//	  ←────────────────────────────────── 1 bytes ──
//	  ←────────────────────────────────── 2 bytes ──
//	  ── 7 signal ─────────────────────────────────→
//	  ── 5 ────────────────────────────────────────→  end of stdin
//	  ←──────────────────────────────────── 4 TEXT ─  only if there is one
//	  ←────────────────────────────────── 3 status ─  exactly one, the last
//	  ←────────────────────────────────────── FIN ──  the end
//
// A client whose connection breaks, or ends without a frame 5, is gone: the
// call's context is cancelled. After a frame 5 it may half-close, and that it is
// gone shows only when it is written to. So a client of a command that reads no
// input does better not to send the 5.
//
// The server takes up to 1 MiB of stdin that the command has not read yet, so
// that a window size or a signal behind it arrives. Beyond that the client's
// frames wait, signals too: it can still hang up.
//
// # Broken calls
//
// A malformed, oversized or truncated line or frame is answered with an error,
// framed once -framed was read and raw before, and the connection is closed.
// The server keeps nothing of it. A panic in a command costs that call only;
// in 2013 an empty array took the whole daemon down
// (docker@bba4e36807:rcli/types.go:30).
//
// # What a service owes
//
// It returns from Serve soon after its context ends; [Server.Serve] waits for
// it. The streams of a [Call] must not be used after Serve has returned: writes
// fail from then on.
package rcli
