package container

import "testing"

func TestEvents(t *testing.T) {
	s := &Store{}
	c := &Container{store: s, id: "0705e18c", engine: Modern, userData: map[string]string{"image": "base:1"}}
	c.emit(ActionCreate, nil) // nobody listens
	all, stop := s.Events()
	slow, _ := s.Events()
	code := 7
	c.emit(ActionStart, nil)
	c.emit(ActionDie, &code)
	for _, want := range []Action{ActionStart, ActionDie} {
		if e := <-all; e.Action != want || e.ID != c.id || e.Image != "base:1" || e.Path != Modern || (want == ActionDie) != (e.ExitCode != nil) {
			t.Errorf("%+v; want %s", e, want)
		}
	}
	for range backlog { // nobody reads slow
		c.emit(ActionPause, nil)
		<-all
	}
	n := 0
	for range slow {
		n++
	}
	if n != backlog {
		t.Errorf("the slow one has %d events, want %d", n, backlog)
	}
	stop()
	stop()
	if _, open := <-all; open {
		t.Error("it goes on after stop")
	}
}
