package dockerd2013

import (
	"context"
	"net"
	"net/http"
	"testing"
)

func TestRefusal(t *testing.T) {
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8080}
	for name, c := range map[string]struct {
		host    string
		header  map[string]string
		listen  net.Addr
		refused bool
	}{
		"curl":                        {"127.0.0.1:8080", nil, loopback, false},
		"localhost":                   {"localhost:8080", nil, loopback, false},
		"LOCALHOST":                   {"LOCALHOST:8080", nil, loopback, false},
		"another loopback address":    {"127.8.8.8:8080", nil, loopback, false},
		"IPv6 loopback":               {"[::1]:8080", nil, loopback, false},
		"no port":                     {"localhost", nil, loopback, false},
		"through a tunnel":            {"localhost:9999", nil, loopback, false},
		"our page":                    {"localhost:8080", map[string]string{"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin"}, loopback, false},
		"typed by the user":           {"localhost:8080", map[string]string{"Sec-Fetch-Site": "none"}, loopback, false},
		"the address we listen on":    {"192.0.2.7:8080", nil, remote, false},
		"DNS rebinding":               {"evil.example:8080", nil, loopback, true},
		"looks like localhost":        {"localhost.evil.example:8080", nil, loopback, true},
		"looks like loopback":         {"127.0.0.1.evil.example:8080", nil, loopback, true},
		"a trailing dot":              {"localhost.:8080", nil, loopback, true},
		"another address":             {"192.0.2.8:8080", nil, remote, true},
		"another port of the address": {"192.0.2.7:80", nil, remote, true},
		"no host":                     {"", nil, loopback, true},
		"a page's form":               {"localhost:8080", map[string]string{"Origin": "http://evil.example"}, loopback, true},
		"a page from a file":          {"localhost:8080", map[string]string{"Origin": "null"}, loopback, true},
		"another port's page":         {"localhost:8080", map[string]string{"Origin": "http://localhost:3000"}, loopback, true},
		"https page of the same name": {"localhost:8080", map[string]string{"Origin": "https://localhost:8080"}, loopback, true},
		"an image on a page":          {"localhost:8080", map[string]string{"Sec-Fetch-Site": "cross-site"}, loopback, true},
		"another port's image":        {"localhost:8080", map[string]string{"Sec-Fetch-Site": "same-site"}, loopback, true},
		"a word we don't know":        {"localhost:8080", map[string]string{"Sec-Fetch-Site": "who-knows"}, loopback, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{Host: c.host, Header: http.Header{}}
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			if reason := refusal(r, c.listen); (reason != "") != c.refused {
				t.Errorf("reason %q, want refused: %v", reason, c.refused)
			}
		})
	}
}

func TestListenIsForLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "[::1]:0": true,
		"0.0.0.0:0": false, ":0": false, "[::]:0": false, "nonsense": false, "127.0.0.1": false,
	} {
		l, err := Listen(context.Background(), address, false)
		if l != nil {
			if cerr := l.Close(); cerr != nil {
				t.Error(cerr)
			}
		}
		if address == "[::1]:0" && err != nil {
			continue // this host may have no IPv6
		}
		if (err == nil) != want {
			t.Errorf("Listen(%q): %v, want it to work: %v", address, err, want)
		}
	}
	l, err := Listen(context.Background(), "0.0.0.0:0", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
