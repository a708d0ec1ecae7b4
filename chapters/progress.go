package chapters

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"docker2013/durable"
)

// Progress is how far a learner has come.
type Progress struct {
	Chapter   string                     `yaml:"chapter,omitempty"` // where learn resumes
	Step      string                     `yaml:"step,omitempty"`
	Path      string                     `yaml:"path,omitempty"` // classic, modern or both
	Language  Lang                       `yaml:"language,omitempty"`
	Steps     map[string][]string        `yaml:"steps,omitempty"`     // the steps that were run, by chapter
	Exercises map[string]ExerciseJourney `yaml:"exercises,omitempty"` // by full name
}

// ExerciseJourney is what a learner has done of an exercise.
type ExerciseJourney struct {
	Started time.Time `yaml:"started,omitempty"` // zero: not, or taken away again
	Passed  time.Time `yaml:"passed,omitempty"`  // for the first time
}

const progressHead = "# How far you have come in docker2013's course; `docker2013 learn` goes on here.\n"

// ProgressFile is where it is kept.
func ProgressFile() (string, error) {
	dir := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(dir) { // as the XDG specification asks
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("where to keep your progress: %w: set XDG_DATA_HOME", err)
		}
		dir = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(dir, "docker2013", "progress.yaml"), nil
}

// ReadProgress reads it; there is none at first.
func ReadProgress() (Progress, error) {
	file, err := ProgressFile()
	if err != nil {
		return Progress{}, err
	}
	return readProgress(file)
}

func readProgress(file string) (p Progress, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = yaml.Unmarshal(data, &p)
	}
	if err != nil {
		return Progress{}, fmt.Errorf("read your progress: %s: %w: mend it, or remove it", file, err)
	}
	return p, nil
}

// UpdateProgress changes it: what others wrote meanwhile stays.
func UpdateProgress(change func(*Progress)) error {
	file, err := ProgressFile()
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep your progress: %w", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("keep your progress: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("keep your progress: %w", err)
	}
	p, err := readProgress(file)
	if err != nil {
		return err
	}
	change(&p)
	out := bytes.NewBufferString(progressHead)
	e := yaml.NewEncoder(out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(p), e.Close()); err != nil {
		return fmt.Errorf("keep your progress: %w", err)
	}
	if err := durable.WriteFile(file, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("keep your progress: %w: make room there, or set XDG_DATA_HOME", err)
	}
	return nil
}

// Ran notes that a step was run.
func (p *Progress) Ran(chapter, step string) {
	if p.Steps == nil {
		p.Steps = map[string][]string{}
	}
	if !slices.Contains(p.Steps[chapter], step) {
		p.Steps[chapter] = append(p.Steps[chapter], step)
	}
}

// Done is how many of a chapter's steps were run.
func (p *Progress) Done(c *Chapter) int {
	n := 0
	for _, s := range c.Steps {
		if slices.Contains(p.Steps[c.ID], s.ID) {
			n++
		}
	}
	return n
}

// Exercise changes what is known of an exercise.
func (p *Progress) Exercise(name string, change func(*ExerciseJourney)) {
	if p.Exercises == nil {
		p.Exercises = map[string]ExerciseJourney{}
	}
	j := p.Exercises[name]
	change(&j)
	p.Exercises[name] = j
}

// State is an exercise's in a word.
func (p *Progress) State(name string) string {
	switch j := p.Exercises[name]; {
	case !j.Passed.IsZero():
		return "passed"
	case !j.Started.IsZero():
		return "started"
	}
	return "new"
}

// TakenAway notes that no exercise is started any more.
func (p *Progress) TakenAway() {
	for name := range p.Exercises {
		p.Exercise(name, func(j *ExerciseJourney) { j.Started = time.Time{} })
	}
}

// Start notes that an exercise was started.
func (p *Progress) Start(x *Exercise, now time.Time) {
	p.Exercise(x.ID, func(j *ExerciseJourney) { j.Started = now.Round(time.Second) })
}

// Pass notes that an exercise was passed; the first time counts.
func (p *Progress) Pass(x *Exercise, now time.Time) {
	p.Exercise(x.ID, func(j *ExerciseJourney) {
		if j.Passed.IsZero() {
			j.Passed = now.Round(time.Second)
		}
	})
}
