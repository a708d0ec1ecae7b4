package dockerd2013

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"
)

// guard refuses what a page on the internet makes a visitor's browser send. In
// 2013 any page could run a command as root on the visitor's machine, with an
// <img> whose address was http://127.0.0.1:8080/run?….
//
//   - Host must be loopback or the address we listen on: a name that a
//     stranger's DNS points here (rebinding) is neither.
//   - Origin, which browsers add to what a page sends, must be ourselves.
//   - Sec-Fetch-Site, which browsers add to everything, must say that it is
//     our own page or the user's own doing.
func guard(listen net.Addr) gin.HandlerFunc {
	return func(g *gin.Context) {
		if reason := refusal(g.Request, listen); reason != "" {
			g.Header("Content-Type", "text/plain; charset=utf-8")
			g.String(http.StatusForbidden, "Error: refused: %s\n", reason)
			g.Abort()
		}
	}
}

// refusal is why a request is refused, "" if it isn't.
func refusal(r *http.Request, listen net.Addr) string {
	host, port := splitHost(r.Host)
	if !isLoopback(host) && !isListener(host, port, listen) {
		return fmt.Sprintf("the request is for host %q, which this daemon is not", r.Host)
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" || !strings.EqualFold(u.Host, r.Host) {
			return fmt.Sprintf("it comes from a page of %s", origin)
		}
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin":
		return ""
	default:
		return fmt.Sprintf("your browser says that it comes from another site (Sec-Fetch-Site: %s)", site)
	}
}

func splitHost(hostport string) (host, port string) {
	if h, p, err := net.SplitHostPort(hostport); err == nil {
		return h, p
	}
	return strings.Trim(hostport, "[]"), "80"
}

// isLoopback reports whether a host's name or address can only be this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isListener reports whether host and port are what we listen on: that address,
// or, listening on all of them, any that is this machine's.
func isListener(host, port string, listen net.Addr) bool {
	tcp, ok := listen.(*net.TCPAddr)
	ip := net.ParseIP(host)
	if !ok || ip == nil || port != fmt.Sprint(tcp.Port) {
		return false
	}
	if !tcp.IP.IsUnspecified() {
		return ip.Equal(tcp.IP)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}
