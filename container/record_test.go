package container

import (
	"testing"
	"time"
)

// The wordings and their borders are those of 2013.
func TestHumanDuration(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "Less than a second"},
		{-time.Second, "Less than a second"},
		{999 * time.Millisecond, "Less than a second"},
		{time.Second, "1 seconds"},
		{26 * time.Second, "26 seconds"},
		{59*time.Second + 999*time.Millisecond, "59 seconds"},
		{time.Minute, "About a minute"},
		{119 * time.Second, "About a minute"},
		{2 * time.Minute, "2 minutes"},
		{59 * time.Minute, "59 minutes"},
		{time.Hour, "About an hour"},
		{119 * time.Minute, "About an hour"},
		{2 * time.Hour, "2 hours"},
		{47 * time.Hour, "47 hours"},
		{2 * day, "2 days"},
		{14*day - time.Hour, "13 days"},
		{14 * day, "2 weeks"},
		{90*day - time.Hour, "12 weeks"},
		{90 * day, "3 months"},
		{730*day - time.Hour, "24 months"},
		{730 * day, "2 years"},
		{3650 * day, "10 years"},
	} {
		if got := HumanDuration(c.d); got != c.want {
			t.Errorf("HumanDuration(%v) = %q, want %q", c.d, got, c.want)
		}
	}
}

func TestStatus(t *testing.T) {
	now := time.Now()
	for want, s := range map[string]State{
		"Created":               {},
		"Exit 0":                {StartedAt: now},
		"Exit 137":              {ExitCode: 137},
		"Up 5 minutes":          {Running: true, StartedAt: now.Add(-5 * time.Minute), ExitCode: 1},
		"Up 2 seconds (Paused)": {Running: true, Paused: true, StartedAt: now.Add(-2 * time.Second)},
		"Up Less than a second": {Running: true, StartedAt: now},
	} {
		if got := s.Status(now); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
}
