package page

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guard lets pass what a browser asks for this page alone. A page of somebody else must not
// read it: not under a name of its own that leads here (DNS rebinding), which is why the host
// is asked for by an address, or as localhost; not from another origin; not in a frame.
func guard(next http.Handler, policy string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case !isAddress(r.Host):
			http.Error(w, "ask for this page by an address or as localhost, not by another name", http.StatusMisdirectedRequest)
		case isForeign(r):
			http.Error(w, "this is for the page of this server alone", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isAddress tells whether a Host (RFC 9110, 7.2) is an IP address or localhost, at any port: an
// SSH tunnel has one of its own.
func isAddress(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil
}

// isForeign tells whether another page asks: by its Origin (RFC 6454), and by what browsers say
// themselves (Fetch Metadata). A link to the page itself may be anywhere.
func isForeign(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
			return true
		}
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return r.URL.Path != "/" && site != "" && site != "same-origin" && site != "none"
}
