package images

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// index2013 is an index.json in the shape of the 2013 daemon's: base imported
// twice from the same tar, and mine committed on top of it.
const index2013 = `{"Path":"/var/lib/docker/images/index.json","ByName":{` +
	`"base":[{"Id":"base:aca382227ddb6a81","Layers":["/var/lib/docker/images/layers/aca382227ddb6a81"],"Created":"2013-01-29T13:21:32.871531+01:00","Parent":""},` +
	`{"Id":"base:aca382227ddb6a81","Layers":["/var/lib/docker/images/layers/aca382227ddb6a81"],"Created":"2013-01-29T13:20:02.123456789+01:00","Parent":""}],` +
	`"mine":[{"Id":"mine:66b9eef322037c9a","Layers":["/var/lib/docker/images/layers/0123456789abcdef","/var/lib/docker/images/layers/aca382227ddb6a81"],"Created":"2013-01-29T13:22:00+01:00","Parent":"base:aca382227ddb6a81"}]},` +
	`"ById":{"base:aca382227ddb6a81":{"Id":"base:aca382227ddb6a81","Layers":["/var/lib/docker/images/layers/aca382227ddb6a81"],"Created":"2013-01-29T13:21:32.871531+01:00","Parent":""},` +
	`"mine:66b9eef322037c9a":{"Id":"mine:66b9eef322037c9a","Layers":["/var/lib/docker/images/layers/0123456789abcdef","/var/lib/docker/images/layers/aca382227ddb6a81"],"Created":"2013-01-29T13:22:00+01:00","Parent":"base:aca382227ddb6a81"}}}`

// writeIndex makes a store's folder with this index.json.
func writeIndex(t testing.TB, data string) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "index.json"), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestStoreOf2013(t *testing.T) {
	root := writeIndex(t, index2013)
	if err := os.MkdirAll(filepath.Join(root, "layers", "aca382227ddb6a81"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "layers", "tmp-123", "half"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, root)
	onlyLayers(t, s, "aca382227ddb6a81")
	if got := s.Names(); !slices.Equal(got, []string{"base", "mine"}) {
		t.Errorf("names %v", got)
	}
	base := s.Find("base")
	want := &Image{
		Id:      "base:aca382227ddb6a81",
		Layers:  []string{filepath.Join(root, "layers/aca382227ddb6a81")}, // the store has been moved
		Created: time.Date(2013, 1, 29, 12, 21, 32, 871531000, time.UTC),
	}
	if !base.Created.Equal(want.Created) {
		t.Errorf("created %v, want %v", base.Created, want.Created)
	}
	base.Created = want.Created
	if !reflect.DeepEqual(base, want) || len(s.History("base")) != 1 {
		t.Errorf("base %+v, %d in its history; want %+v", base, len(s.History("base")), want)
	}
	mine := s.Find("mine:66b9eef322037c9a")
	if mine == nil || len(mine.Layers) != 2 || mine.Parent != base.Id {
		t.Errorf("mine %+v", mine)
	}
	if fi, err := os.Stat(s.layers); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("layers/ is %v, %v: anybody could run a layer's set-user-ID programs", fi.Mode(), err)
	}

	// What we write has the same shape.
	if _, err := s.Copy("mine", "copy"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if prefix := `{"Path":"` + root + `/index.json","ByName":{"base":[{"Id":"base:aca382227ddb6a81","Layers":["`; !strings.HasPrefix(string(data), prefix) {
		t.Errorf("index.json is %s", data)
	}
	if again := openStore(t, root); !reflect.DeepEqual(ids(again), ids(s)) {
		t.Errorf("reopened: %v, want %v", ids(again), ids(s))
	}
}

func ids(s *Store) (ids []string) {
	for _, img := range s.All() {
		ids = append(ids, img.Id)
	}
	return ids
}

func TestCorruptIndex(t *testing.T) {
	for name, data := range map[string]string{
		"empty":              "",
		"cut off":            index2013[:len(index2013)/2],
		"followed by more":   index2013 + "}",
		"another type":       `[1]`,
		"a null image":       `{"ByName":{"x":[null]}}`,
		"a null id":          `{"ById":{"x:0123456789abcdef":null}}`,
		"no id":              `{"ByName":{"x":[{"Layers":["/l/0123456789abcdef"]}]}}`,
		"another's id":       `{"ByName":{"x":[{"Id":"y:0123456789abcdef","Layers":["/l/0123456789abcdef"]}]}}`,
		"a short id":         `{"ByName":{"x":[{"Id":"x:0123","Layers":["/l/0123456789abcdef"]}]}}`,
		"a key that is not":  `{"ById":{"x":{"Id":"x:0123456789abcdef","Layers":["/l/0123456789abcdef"]}}}`,
		"no layers":          `{"ByName":{"x":[{"Id":"x:0123456789abcdef"}]}}`,
		"a layer of nothing": `{"ByName":{"x":[{"Id":"x:0123456789abcdef","Layers":[""]}]}}`,
		"a layer above":      `{"ByName":{"x":[{"Id":"x:0123456789abcdef","Layers":["/l/.."]}]}}`,
		"the host's root":    `{"ByName":{"x":[{"Id":"x:0123456789abcdef","Layers":["/"]}]}}`,
		"the host's etc":     `{"ByName":{"x":[{"Id":"x:0123456789abcdef","Layers":["/etc"]}]}}`,
		"a bad time":         `{"ByName":{"x":[{"Id":"x:0123456789abcdef","Layers":["/l/0123456789abcdef"],"Created":"yesterday"}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			root := writeIndex(t, data)
			tmp := filepath.Join(root, "layers", "tmp-1")
			if err := os.MkdirAll(tmp, 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := Open(root, Options{})
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(fmt.Sprint(err), root+"/index.json") {
				t.Errorf("error %v", err)
			}
			after, err := os.ReadFile(filepath.Join(root, "index.json"))
			if err != nil || string(after) != data || !isFolder(tmp) {
				t.Errorf("something changed: index.json %q, %v", after, err)
			}
		})
	}
}

func TestIndexWithoutNames(t *testing.T) {
	const img = `{"Id":"x:%s","Layers":["/l/0123456789abcdef"],"Created":"2013-01-%sT00:00:00Z"}`
	old := fmt.Sprintf(img, "aaaaaaaaaaaaaaaa", "01")
	recent := fmt.Sprintf(img, "bbbbbbbbbbbbbbbb", "03")
	named := fmt.Sprintf(img, "cccccccccccccccc", "02")
	s := openStore(t, writeIndex(t, `{"ByName":{"x":[`+named+`],"none":[]},"ById":{"x:aaaaaaaaaaaaaaaa":`+old+`,"x:bbbbbbbbbbbbbbbb":`+recent+`}}`))
	if got, want := ids(s), []string{"x:bbbbbbbbbbbbbbbb", "x:cccccccccccccccc", "x:aaaaaaaaaaaaaaaa"}; !slices.Equal(got, want) {
		t.Errorf("images %v, want %v", got, want)
	}
	if got := s.Names(); !slices.Equal(got, []string{"x"}) {
		t.Errorf("names %q", got)
	}
}

func TestFind(t *testing.T) {
	const img = `{"Id":"%s","Layers":["/l/0123456789abcdef"],"Created":"2013-01-01T00:00:00Z"}`
	var list []string
	for _, id := range []string{"base:abcd000000000000", "base:abce000000000000", "abcf:beef000000000000", "other:beef000000000000"} {
		list = append(list, fmt.Sprintf(`"%s":`+img, id, id))
	}
	s := openStore(t, writeIndex(t, `{"ById":{`+strings.Join(list, ",")+`}}`))
	for query, want := range map[string]string{
		"base:abcd000000000000": "base:abcd000000000000",
		"abcd":                  "base:abcd000000000000",
		"base:abce":             "base:abce000000000000",
		"base:abc":              "", // too short
		"abc":                   "",
		"beef":                  "", // of two images
		"other:beef":            "other:beef000000000000",
		"abcf":                  "abcf:beef000000000000", // the name first
		"nosuch":                "",
		"":                      "",
	} {
		got := ""
		if img := s.Find(query); img != nil {
			got = img.Id
		}
		if got != want {
			t.Errorf("Find(%q) = %q, want %q", query, got, want)
		}
	}
}

// FuzzIndex: whatever index.json holds, it is refused or understood; what is
// understood survives being written and read again.
func FuzzIndex(f *testing.F) {
	f.Add(index2013)
	f.Add(`{"ByName":null,"ById":null}`)
	f.Add(`{"ById":{":0123456789abcdef":{"Id":":0123456789abcdef","Layers":["/0123456789abcdef"]}}}`)
	f.Add(`{"ByName":{"x":[{"Id":"x:0123456789abcdef","Layers":["/l/.."]}]}}`)
	f.Fuzz(func(t *testing.T, data string) {
		path := filepath.Join(t.TempDir(), "index.json")
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := loadIndex(path, "/store/layers")
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v", err)
			}
			return
		}
		for layer := range x.layers() {
			if filepath.Dir(layer) != "/store/layers" || !isHash(filepath.Base(layer)) {
				t.Fatalf("layer %q is outside the store", layer)
			}
		}
		named := 0
		for name, history := range x.ByName {
			for _, img := range history {
				named++
				if img.Name() != name || x.ById[img.Id] != img {
					t.Fatalf("image %+v is not the one of %q", img, name)
				}
			}
		}
		if named != len(x.ById) {
			t.Fatalf("%d images by name, %d by id", named, len(x.ById))
		}
		if err := x.save(); err != nil {
			return // a year that JSON can't write
		}
		again, err := loadIndex(path, "/store/layers")
		if err != nil {
			t.Fatalf("what was saved can't be read: %v", err)
		}
		for name, history := range x.ByName {
			for i, img := range history {
				if other := again.ByName[name]; len(other) != len(history) || other[i].Id != img.Id {
					t.Fatalf("history of %q changed", name)
				}
			}
		}
	})
}
