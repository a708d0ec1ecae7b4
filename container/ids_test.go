package container

import "testing"

// No id is two containers', even when the daemon's range was another before.
func TestNoIDIsTwoContainers(t *testing.T) {
	const each = idsEach
	p := idPool{all: IDs{First: 2 * each, Count: 4 * each}, taken: map[IDs]bool{}}
	old := IDs{First: 3*each - 1, Count: each} // in the first and the second of four
	p.keep(&old)
	p.keep(nil)
	one, err := p.take()
	if err != nil || *one != (IDs{4 * each, each}) {
		t.Fatalf("%v, %v", one, err)
	}
	if two, err := p.take(); err != nil || *two != (IDs{5 * each, each}) {
		t.Fatalf("%v, %v", two, err)
	}
	if ids, err := p.take(); err == nil {
		t.Fatalf("%v was given out twice", ids)
	}
	p.release(one)
	if again, err := p.take(); err != nil || *again != *one {
		t.Fatalf("%v, %v", again, err)
	}
	p.release(&old)
	if first, err := p.take(); err != nil || *first != (IDs{2 * each, each}) {
		t.Fatalf("%v, %v", first, err)
	}
}

func TestParseIDs(t *testing.T) {
	for text, want := range map[string]IDs{
		"65536:65536": {65536, 65536}, "100000:131072": {100000, 131072},
		"": {}, "100000": {}, "0:65536": {}, "1000:65536": {}, "100000:10": {}, "4294902000:65536": {}, "x:65536": {}, "-1:65536": {},
	} {
		if got, err := ParseIDs(text); got != want || (err != nil) != (want == IDs{}) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
}
