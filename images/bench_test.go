package images

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkImport imports a tar of 20,000 files and 500 MB, in turns with tar -x
// of the same, and prints how many times longer we take, from medians, and the
// peak of our memory. Nothing is deleted until the end: ext4 is slow to take up
// the inodes of files that were just deleted, and that would be what is measured.
//
//	go test -run '^$' -bench Import -benchtime 5x ./images
func BenchmarkImport(b *testing.B) {
	needRoot(b)
	home := b.TempDir()
	archive := filepath.Join(home, "big.tar")
	if err := bigTar(archive); err != nil {
		b.Fatal(err)
	}
	var ours, theirs []time.Duration
	for i := 0; b.Loop(); i++ {
		theirs = append(theirs, timed(b, func() error {
			dir := filepath.Join(home, fmt.Sprint("tar", i))
			return errors.Join(os.Mkdir(dir, 0o755), exec.Command("tar", "-xf", archive, "-C", dir).Run())
		}))
		// A store of its own, as one that has the layer would be no measure.
		s := openStore(b, filepath.Join(home, fmt.Sprint("images", i)))
		ours = append(ours, timed(b, func() error {
			f, err := os.Open(archive)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = s.Import(b.Context(), "big", f, nil, nil)
			return err
		}))
	}
	b.ReportMetric(0, "ns/op") // of both together
	b.ReportMetric(median(ours).Seconds(), "s/import")
	b.ReportMetric(median(theirs).Seconds(), "s/tar")
	b.ReportMetric(median(ours).Seconds()/median(theirs).Seconds(), "ratio")
	b.ReportMetric(peakMemory(b), "MB-peak")
}

func timed(b *testing.B, f func() error) time.Duration {
	if err := exec.Command("sync").Run(); err != nil { // what the other left to write
		b.Fatal(err)
	}
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// peakMemory is the most that this process ever had resident.
func peakMemory(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kB, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kB) / 1024
		}
	}
	return 0
}

// bigTar writes 200 folders of 100 files of 25,000 bytes that don't compress.
func bigTar(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	w := tar.NewWriter(out)
	random := rand.NewChaCha8([32]byte{})
	content := make([]byte, 25_000)
	for d := range 200 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%03d/", d), Mode: 0o755, ModTime: testTime}); err != nil {
			return err
		}
		for n := range 100 {
			_, _ = random.Read(content) // never fails
			h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%03d/f%02d", d, n), Mode: 0o644, Size: int64(len(content)), ModTime: testTime}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			if _, err := w.Write(content); err != nil {
				return err
			}
		}
	}
	return errors.Join(w.Close(), out.Flush(), f.Close())
}
