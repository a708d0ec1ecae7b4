// Package dockerd2013 is the daemon: it takes calls on TCP (package rcli) and on
// HTTP, finds the method that a command names, and runs it.
//
//	rcli.Server ─┐
//	             ├─▶ Serve ─▶ Cmd* method ─▶ images.Store, container.Store
//	HTTP (gin) ──┘
//
// A command `run` is the method CmdRun, found by reflection, as in 2013
// (docker@bba4e36807:rcli/types.go:41). Its signature was
//
//	func (srv *Server) CmdRun(stdin io.ReadCloser, stdout io.Writer, args ...string) error
//
// and is now
//
//	func (d *Daemon) CmdRun(ctx context.Context, c *rcli.Call) error
//
// because a call has more than one output, an end that it can learn of, and an
// exit status. The texts of 2013 are made here and nowhere below.
package dockerd2013
