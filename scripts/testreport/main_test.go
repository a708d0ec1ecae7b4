package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const pass = `{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	const fail = `{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: wrong\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- FAIL: TestB\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`
	skipped := func(reason string) string {
		return `{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:1: a word before\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:2: ` + reason + `\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"--- SKIP: TestC\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
`
	}
	for _, c := range []struct {
		name   string
		in     string
		strict bool
		ok     bool
		want   string
	}{
		{"passed", pass, true, true, "ok  \tp\t0.1s\n1 passed, 0 failed, 0 skipped\n"},
		{
			"failed", pass + fail, false, false,
			"ok  \tp\t0.1s\n    b_test.go:1: wrong\n--- FAIL: TestB\nFAIL\tp\t0.1s\n1 passed, 1 failed, 0 skipped\n",
		},
		{
			"skipped", pass + skipped("needs root"), false, true,
			"ok  \tp\t0.1s\nskipped: p TestC: needs root\n1 passed, 0 failed, 1 skipped\n",
		},
		{
			"skipped where it mustn't", pass + skipped("needs root"), true, false,
			"ok  \tp\t0.1s\nskipped, and must not be: p TestC: needs root\n1 passed, 0 failed, 1 skipped\n",
		},
		{
			"skipped with an excuse", pass + skipped("not on this host: AUFS"), true, true,
			"ok  \tp\t0.1s\nskipped: p TestC: not on this host: AUFS\n1 passed, 0 failed, 1 skipped\n",
		},
		{
			"skipped without a word", pass + `{"Action":"skip","Package":"p","Test":"TestC"}`, true, false,
			"ok  \tp\t0.1s\nskipped, and must not be: p TestC: no reason given\n1 passed, 0 failed, 1 skipped\n",
		},
		{
			"a panic in a test", pass + `{"Action":"output","Package":"q","Test":"TestP","Output":"panic: oh\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.1s\n"}
{"Action":"fail","Package":"q"}
`, false, false,
			"ok  \tp\t0.1s\npanic: oh\nFAIL\tq\t0.1s\n1 passed, 1 failed, 0 skipped\n",
		},
		{
			"doesn't compile", pass + `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: syntax error\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq [build failed]\n"}
{"Action":"fail","Package":"q"}
`, false, false,
			"ok  \tp\t0.1s\nq.go:1: syntax error\nFAIL\tq [build failed]\n1 passed, 1 failed, 0 skipped\n",
		},
		{
			"a word of TestMain", `{"Action":"output","Package":"p","Output":"needs root\n"}` + "\n" + pass, false, true,
			"needs root\nok  \tp\t0.1s\n1 passed, 0 failed, 0 skipped\n",
		},
		{
			"a host", `{"Action":"output","Package":"e","Output":"host: Linux | v2\n"}
{"Action":"pass","Package":"e","Test":"TestScript/a"}
{"Action":"pass","Package":"e","Test":"TestModern/a"}
{"Action":"output","Package":"e","Test":"TestModern/b","Output":"    b_test.go:1: no zsh\n"}
{"Action":"skip","Package":"e","Test":"TestModern/b"}
{"Action":"pass","Package":"e"}
`, false, true,
			"skipped: e TestModern/b: no zsh\n| Linux | v2 | classic | 1 | 0 | 0 |\n| Linux | v2 | modern | 1 | 0 | 1: no zsh |\n2 passed, 0 failed, 1 skipped\n",
		},
		{"nothing", "", false, false, "no test ran\n0 passed, 0 failed, 0 skipped\n"},
		{"other lines", "== fuzz\n{not json}\n" + pass, false, true, "== fuzz\n{not json}\nok  \tp\t0.1s\n1 passed, 0 failed, 0 skipped\n"},
	} {
		var out strings.Builder
		r := report{out: &out, strict: c.strict}
		if err := r.read(strings.NewReader(c.in)); err != nil {
			t.Fatal(err)
		}
		if ok := r.end(); ok != c.ok || out.String() != c.want {
			t.Errorf("%s: %v, want %v\ngot  %q\nwant %q", c.name, ok, c.ok, out.String(), c.want)
		}
	}
}
