package chapters

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Path is the way on which a container is made.
type Path string

// The two paths.
const (
	Classic Path = "classic"
	Modern  Path = "modern"
)

// AllPaths are the paths, in the order in which they are shown.
var AllPaths = []Path{Classic, Modern}

// Lang is a language of the course.
type Lang string

// The languages.
const (
	English Lang = "en"
	Chinese Lang = "zh"
)

// Langs are the languages that every chapter has.
var Langs = []Lang{English, Chinese}

// Chapter is one folder of the course.
type Chapter struct {
	ID        string // its folder's name: "04-union"
	Number    int    // 4
	Paths     []Path // on which it is played
	Steps     []*Step
	Exercises []*Exercise

	prose map[Lang]*Prose
	dir   fs.FS
}

// Step is one step of a chapter.
type Step struct {
	ID       string
	Run      PerPath[string] // bash; no entry: not on that path
	Fails    PerPath[bool]   // it is meant to fail
	Needs    []string        // of the host, see Missing
	Evidence []Evidence
	Source   []string // symbols of ours, "rcli.EncodeCall"
	Cites    []string // where history and the system are written down
}

// Evidence is what a step's output must have, or must not have.
type Evidence struct {
	Match, Absent *regexp.Regexp // of a line; one of the two is set
	Path          Path           // on this one only; "": on both
	Note          map[Lang]string
}

// Exercise is a task that is judged by the state of the system.
type Exercise struct {
	ID       string // "04-hunt-whiteout"
	Name     string // "hunt-whiteout"
	Kind     string // one of kinds
	Level    int    // 1 to 3
	Path     Path
	Needs    []string
	Start    string // bash: brings the state to begin with
	Check    string // bash: its exit status is the verdict
	Solution string // bash: brings the solved state
	Reset    string // bash: takes back what goes beyond label, image name and folder; may be ""

	chapter *Chapter
}

// Chapter is the one that the exercise is of.
func (x *Exercise) Chapter() *Chapter { return x.chapter }

// PerPath is a value for each path.
type PerPath[T any] map[Path]T

// UnmarshalYAML takes one value for both paths, or a map from path to value.
func (p *PerPath[T]) UnmarshalYAML(node *yaml.Node) error {
	*p = PerPath[T]{}
	if node.Kind != yaml.MappingNode {
		var v T
		err := node.Decode(&v)
		for _, path := range AllPaths {
			(*p)[path] = v
		}
		return err
	}
	for i := 0; i < len(node.Content); i += 2 {
		path := Path(node.Content[i].Value)
		if !slices.Contains(AllPaths, path) {
			return fmt.Errorf("line %d: %s: say classic or modern", node.Content[i].Line, path)
		}
		var v T
		if err := node.Content[i+1].Decode(&v); err != nil {
			return err
		}
		(*p)[path] = v
	}
	return nil
}

// UnmarshalYAML compiles the regular expressions.
func (e *Evidence) UnmarshalYAML(node *yaml.Node) error {
	var raw struct {
		Match, Absent *string
		Path          Path
		Note          map[Lang]string
	}
	if err := strict(node, &raw); err != nil {
		return err
	}
	if (raw.Match == nil) == (raw.Absent == nil) {
		return fmt.Errorf("line %d: evidence has either match or absent", node.Line)
	}
	if raw.Path != "" && !slices.Contains(AllPaths, raw.Path) {
		return fmt.Errorf("line %d: path %s: say classic or modern", node.Line, raw.Path)
	}
	e.Path, e.Note = raw.Path, raw.Note
	for _, r := range []struct {
		text *string
		re   **regexp.Regexp
	}{{raw.Match, &e.Match}, {raw.Absent, &e.Absent}} {
		if r.text == nil {
			continue
		}
		re, err := regexp.Compile(*r.text)
		if err != nil {
			return fmt.Errorf("line %d: %w", node.Line, err)
		}
		if *r.text == "" {
			return fmt.Errorf("line %d: an empty regular expression matches everything", node.Line)
		}
		*r.re = re
	}
	return nil
}

// strict decodes a node and refuses keys that v doesn't have.
func strict(node *yaml.Node, v any) error {
	data, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("in the entry at line %d: %w", node.Line, err)
	}
	return nil
}

// Load reads all chapters of a folder, in their order. With the error, which names
// everything that is wrong, come those that could be read.
func Load(dir fs.FS) ([]*Chapter, error) {
	folders, err := fs.Glob(dir, "[0-9][0-9]-*")
	if err != nil {
		return nil, err
	}
	if len(folders) == 0 {
		return nil, errors.New("there is no chapter: a folder NN-name")
	}
	var list []*Chapter
	for _, id := range folders {
		c, err2 := load(dir, id)
		err = errors.Join(err, err2)
		if c != nil {
			list = append(list, c)
		}
	}
	return list, err
}

// Course is the chapters that this program ships.
func Course() ([]*Chapter, error) { return Load(course) }

var folderName = regexp.MustCompile(`^([0-9]{2})-[a-z0-9-]+$`)

func load(dir fs.FS, id string) (*Chapter, error) {
	m := folderName.FindStringSubmatch(id)
	if m == nil {
		return nil, fmt.Errorf("%s: a chapter's folder is called NN-name", id)
	}
	sub, err := fs.Sub(dir, id)
	if err != nil {
		return nil, err
	}
	c := &Chapter{ID: id, dir: sub, prose: map[Lang]*Prose{}}
	c.Number, _ = strconv.Atoi(m[1])
	if err := c.readData(); err != nil {
		return nil, err
	}
	err = nil
	for _, lang := range Langs {
		text, rerr := fs.ReadFile(sub, string(lang)+".md")
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", id, rerr))
			continue
		}
		c.prose[lang], rerr = parseProse(string(text))
		for _, one := range lines(rerr) {
			err = errors.Join(err, fmt.Errorf("%s/%s.md:%s", id, lang, one))
		}
	}
	if err == nil { // else everything that is missing would be told again
		err = c.check()
	}
	c.fill()
	return c, err
}

// fill puts empty texts where there are none, so that what is wrong can be told, and
// the rest played.
func (c *Chapter) fill() {
	for _, lang := range Langs {
		p := c.prose[lang]
		if p == nil {
			p = newProse()
			c.prose[lang] = p
		}
		for _, s := range c.Steps {
			if p.Steps[s.ID] == nil {
				p.Steps[s.ID] = &StepProse{}
			}
		}
		for _, x := range c.Exercises {
			if p.Exercises[x.Name] == nil {
				p.Exercises[x.Name] = &ExerciseProse{}
			}
		}
	}
}

// lines are the single errors of a joined one.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// readData reads chapter.yaml.
func (c *Chapter) readData() error {
	name := c.ID + "/chapter.yaml"
	data, err := fs.ReadFile(c.dir, "chapter.yaml")
	if err != nil {
		return fmt.Errorf("%s: %w", c.ID, err)
	}
	var raw struct {
		Paths     string
		Steps     []*Step
		Exercises []*struct {
			Name, Kind                    string
			Level                         int
			Path                          Path
			Needs                         []string
			Start, Check, Solution, Reset string
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&raw); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch raw.Paths {
	case "", "both":
		c.Paths = AllPaths
	case "classic", "modern":
		c.Paths = []Path{Path(raw.Paths)}
	default:
		return fmt.Errorf("%s: paths: %s: say both, classic or modern", name, raw.Paths)
	}
	for _, s := range raw.Steps {
		if s == nil {
			return fmt.Errorf("%s: an empty step", name)
		}
		c.Steps = append(c.Steps, s)
	}
	for _, x := range raw.Exercises {
		if x == nil {
			return fmt.Errorf("%s: an empty exercise", name)
		}
		if x.Path == "" {
			x.Path = Classic
		}
		c.Exercises = append(c.Exercises, &Exercise{
			ID: fmt.Sprintf("%02d-%s", c.Number, x.Name), Name: x.Name, Kind: x.Kind, Level: x.Level, Path: x.Path,
			Needs: x.Needs, Start: x.Start, Check: x.Check, Solution: x.Solution, Reset: x.Reset, chapter: c,
		})
	}
	return nil
}

// Prose is the chapter's in a language.
func (c *Chapter) Prose(lang Lang) *Prose { return c.prose[lang] }

// On reports whether the step runs on a path.
func (s *Step) On(path Path) bool { return s.Run[path] != "" }
