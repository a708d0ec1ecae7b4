// Command docker2013-learn is the course: docker2013 becomes it for learn, chapter,
// exercise and cleanup. It is a program of its own so that the client starts fast.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"docker2013/chapters"
	"docker2013/cli2013"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := command().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	if !errors.Is(err, errSaid) {
		fmt.Fprintf(os.Stderr, "docker2013: %s\n", strings.ReplaceAll(err.Error(), "\n", "\ndocker2013: "))
	}
	os.Exit(1)
}

// errSaid is a failure that has been told.
var errSaid = errors.New("it has been said")

// app is one run of the command line.
type app struct {
	host     string // the daemon's address
	chapters string // a folder of chapters instead of ours
}

func command() *cobra.Command {
	a := &app{}
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:               "docker2013",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	addr := os.Getenv("DOCKER")
	if addr == "" {
		addr = cli2013.DefaultAddr
	}
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVarP(&a.host, "host", "H", addr, "the daemon: `address` ($DOCKER)")
	f.StringVar(&a.chapters, "chapters", os.Getenv("DOCKER2013_CHAPTERS"), "a `folder` of chapters instead of ours ($DOCKER2013_CHAPTERS)")
	root.AddCommand(a.chapterCommand())
	return root
}

// list is the chapters.
func (a *app) list() ([]*chapters.Chapter, error) {
	if a.chapters != "" {
		return chapters.Load(os.DirFS(a.chapters))
	}
	return chapters.Course()
}

// connect finds the daemon.
func (a *app) connect(ctx context.Context) (*chapters.Host, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h, err := chapters.Connect(ctx, a.host, filepath.Dir(self))
	if err != nil {
		return nil, err
	}
	return h, h.HaveBase(ctx)
}
