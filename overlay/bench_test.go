package overlay_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkMount mounts and unmounts fresh containers whose layers are prepared,
// and reports medians: of Mount, of Unmount, and of what the kernel then still
// does in the background.
func BenchmarkMount(b *testing.B) {
	for _, n := range []int{1, 3, 30, 100} {
		b.Run(fmt.Sprint(n, "layers"), func(b *testing.B) {
			h := newHost(b)
			var layers []string
			for i := range n {
				layers = append(layers, h.layer(fmt.Sprintf("touch %d .wh.%d", i, i+n)))
			}
			h.seen(layers...)
			var took [3][]time.Duration
			for b.Loop() {
				fsys := h.container(layers...)
				for i, step := range []func() error{
					func() error { return h.union.Mount(b.Context(), fsys) },
					func() error { return h.union.Unmount(b.Context(), fsys) },
					h.union.Close,
				} {
					start := time.Now()
					ok(b, step())
					took[i] = append(took[i], time.Since(start))
				}
			}
			for i, name := range []string{"µs/mount", "µs/unmount", "µs/background"} {
				slices.Sort(took[i])
				b.ReportMetric(float64(took[i][b.N/2].Nanoseconds())/1000, name)
			}
		})
	}
}
