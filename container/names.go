package container

import (
	"errors"
	"fmt"
	"regexp"
)

// ErrName: a name that can't be had; the error says why.
var ErrName = errors.New("name")

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// free says why a container can't be called name, nil if it can; s.mu is held.
func (s *Store) free(name string) error {
	switch {
	case name == "":
		return nil
	case !validName.MatchString(name):
		return fmt.Errorf("%w %q: say letters, digits, _ . and -, the first a letter or a digit", ErrName, name)
	case s.names[name] != nil:
		return fmt.Errorf("%w %s is container %s's: choose another, or rename that", ErrName, name, s.names[name].id)
	case s.list[name] != nil:
		return fmt.Errorf("%w %s is a container's id: choose another", ErrName, name)
	}
	return nil
}

// Rename gives a container another name; "" takes it away. It is durable when
// Rename returns. ErrName, ErrRemoved.
func (s *Store) Rename(c *Container, name string) error {
	s.mu.Lock()
	if s.names[name] == c && name != "" {
		s.mu.Unlock()
		return nil
	}
	if err := s.free(name); err != nil {
		s.mu.Unlock()
		return err
	}
	if name != "" {
		s.names[name] = c // taken, before anybody else does
	}
	s.mu.Unlock()

	var old string
	err := c.change(func(r *Record) { old, r.Name = r.Name, name })
	if err != nil {
		old = name // given back
	}
	s.mu.Lock()
	delete(s.names, old)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	c.emit(ActionRename, nil)
	return c.flush()
}
