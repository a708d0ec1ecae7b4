package xray_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"docker2013/xray"
)

// A golden case: a record of each path, cut down to a line of every kind, and what
// is made of it.
func TestGolden(t *testing.T) {
	for _, path := range []string{"classic", "modern"} {
		t.Run(path, func(t *testing.T) {
			f, err := os.Open(filepath.Join("testdata", path+".strace"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			calls, err := xray.Parse(f)
			if err != nil {
				t.Fatal(err)
			}
			made := xray.Made(calls, "0705e18c", path == "modern")
			var got strings.Builder
			film := xray.Film{Path: path, Maker: "the maker", Total: len(made), Deeds: xray.Explain(made, "/r/containers/0705e18c/rootfs")}
			sheet := xray.Sheet{W: &got, Width: xray.Width}
			if err := sheet.Print(film); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", path+".txt")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}

// What is cut in the middle, or is none at all, is no reason to fail.
func TestParseOddLines(t *testing.T) {
	calls, err := xray.Parse(strings.NewReader(`1 --- SIGCHLD {si_signo=SIGCHLD} ---
1 +++ exited with 0 +++
2 write(1</x>, "a, b\" c)", 3 <unfinished ...>
1 setsid() = 1
2 <... write resumed>) = 3
3 write(
4 openat(AT_FDCWD</>, "/nosuch", O_RDONLY) = -1 ENOENT (No such file or directory)
`))
	if err != nil || len(calls) != 3 {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	if c := calls[1]; c.Name != "write" || len(c.Args) != 3 || c.Args[1] != `"a, b\" c)"` || !c.OK() {
		t.Errorf("%+v", c)
	}
	if calls[2].OK() {
		t.Errorf("%+v didn't fail", calls[2])
	}
}

// A child can be faster than the end of the call that made it.
func TestChildBeforeItsBirth(t *testing.T) {
	calls, err := xray.Parse(strings.NewReader(`7 clone3({flags=CLONE_NEWNS}, 88 <unfinished ...>
8 pivot_root(".", ".") = 0
7 <... clone3 resumed> => {pidfd=[3]}, 88) = 8
8 execve("/bin/true", ["/bin/true"], 0x1 /* 2 vars */) = 0
8 setsid() = 1
`))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range xray.Made(calls, "0705e18c", true) {
		names = append(names, c.Name)
	}
	if got := strings.Join(names, " "); got != "pivot_root clone3 execve" {
		t.Errorf("got %s", got)
	}
}

// Both films of one record have no differences.
func TestBothOfOne(t *testing.T) {
	f, err := os.Open("testdata/modern.strace")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls, err := xray.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	film := xray.Film{Path: "modern", Deeds: xray.Explain(xray.Made(calls, "0705e18c", true), "/r/containers/0705e18c/rootfs")}
	var b strings.Builder
	sheet := xray.Sheet{W: &b, Width: xray.Width}
	if err := sheet.PrintBoth(film, film); err != nil || strings.Contains(b.String(), "modern only") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// Of what many things are done with, each is compared; where there is room, what one does
// stands beside what the other does.
func TestBoth(t *testing.T) {
	film := func(path string, deeds ...xray.Deed) xray.Film {
		for i := range deeds {
			deeds[i].Idea, deeds[i].Calls, deeds[i].Count = xray.Capabilities, []string{"prctl"}, max(1, len(deeds[i].Items))
		}
		return xray.Film{Path: path, Maker: "it", Deeds: deeds}
	}
	a := film("classic", xray.Deed{Words: "drop:", Items: []string{"sys_time", "mknod"}}, xray.Deed{Words: "one thing"})
	b := film("modern", xray.Deed{Words: "another"}, xray.Deed{Words: "drop:", Items: []string{"bpf", "sys_time"}})
	for width, want := range map[int]string{
		60: "\nCAPABILITIES\n  both\n  • drop: sys_time\n      prctl\n  classic only\n  • drop: mknod\n      prctl\n  • one thing\n      prctl\n" +
			"  modern only\n  • another\n      prctl\n  • drop: bpf\n      prctl\n",
		123: "\nCAPABILITIES\n  both\n  • drop: sys_time\n      prctl\n" + strings.Join([]string{
			fmt.Sprintf("%-60s │   modern only", "  classic only"), fmt.Sprintf("%-60s │   • another", "  • drop: mknod"), fmt.Sprintf("%-60s │       prctl", "      prctl"),
			fmt.Sprintf("%-60s │   • drop: bpf", "  • one thing"), fmt.Sprintf("%-60s │       prctl", "      prctl"),
		}, "\n") + "\n",
	} {
		var got strings.Builder
		sheet := xray.Sheet{W: &got, Width: width}
		if err := sheet.PrintBoth(a, b); err != nil || !strings.Contains(got.String(), want) {
			t.Errorf("%d wide: %v\n%s\nwant\n%s", width, err, got.String(), want)
		}
	}
}

// A report knows every symbol that it names.
func TestSources(t *testing.T) {
	for _, film := range []string{"classic", "modern"} {
		f, err := os.Open("testdata/" + film + ".strace")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		calls, err := xray.Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range xray.Explain(xray.Made(calls, "0705e18c", film == "modern"), "/r/containers/0705e18c/rootfs") {
			if d.Source != "" && xray.Where(d.Source) == "" {
				t.Errorf("xray.Sources has no %s", d.Source)
			}
		}
	}
}
