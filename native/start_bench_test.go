package native

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"docker2013/cgroups"
	"docker2013/container"
)

// BenchmarkPrepare is what the daemon does of a start, a part at a time.
func BenchmarkPrepare(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("SKIP: cgroups need root")
	}
	host, err := cgroups.Detect()
	if err != nil {
		b.Fatal(err)
	}
	parent, err := host.Parent(fmt.Sprintf("docker2013-test-%d", os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	defer parent.Close()
	rt := &Runtime{host: host, parent: parent, lastCap: 40, log: slog.New(slog.DiscardHandler)}
	r := &container.Record{Id: "bench", Path: "/bin/true", Root: b.TempDir()}
	s, err := rt.spec(r)
	if err != nil {
		b.Fatal(err)
	}
	plan, err := host.Plan(s.Linux.Resources)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("configure", func(b *testing.B) {
		for b.Loop() {
			if err := rt.Configure(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("filter", func(b *testing.B) {
		for b.Loop() {
			if _, err := rt.filters.Compile(s.Linux.Seccomp); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cgroup", func(b *testing.B) {
		for b.Loop() {
			g, err := parent.Create("bench", plan)
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := g.Remove(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("compile", func(b *testing.B) {
		x := NewSetup()
		x.Rootfs, x.LastCap = "/", 40
		for b.Loop() {
			p, err := Compile(s, x)
			if err != nil {
				b.Fatal(err)
			}
			p.Encode()
		}
	})
	b.Run("listen", func(b *testing.B) {
		for b.Loop() {
			fd, err := listen(r.Root)
			if err != nil {
				b.Fatal(err)
			}
			os.NewFile(uintptr(fd), "").Close()
		}
	})
}
