package load

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"serin.dev/e2e/mesh/echo"
)

// serveH2C serves HTTP/2 without TLS until the test ends. Its address.
func serveH2C(t *testing.T, handler http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

func TestCallsAreCountedByTheirStatus(t *testing.T) {
	// A proxy that has no pod, a call that is cut behind its message, and one that never gets a status.
	away := http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set("Content-Type", echo.GRPC)
		answer.Header().Set(echo.GRPCStatus, "14")
		answer.Header().Set(flagsHeader, "UH")
	})
	cut := http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set(echo.RevisionHeader, "a")
		_, _ = answer.Write(echo.Framed("a"))
		_ = http.NewResponseController(answer).Flush()
		panic(http.ErrAbortHandler)
	})
	silent := http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set(echo.RevisionHeader, "a")
		_, _ = answer.Write(echo.Framed("a"))
	})
	config := Config{
		Targets: []string{
			serveH2C(t, echo.Settings{Pod: "p", Revision: "good"}), serveH2C(t, echo.Settings{Pod: "p", Revision: "bad", Fail: 1}),
			serveH2C(t, away), serveH2C(t, cut), serveH2C(t, silent),
		},
		Rate: 1000, Count: 10, Duration: time.Minute, Timeout: time.Second, Calls: true,
	}
	report, err := Watched(context.Background(), config, func(string) {})
	s := report.Summary()
	if err != nil || s.Answered["good"] != 2 || s.Failed["bad"] != 2 || s.Losses != 6 {
		t.Errorf("%+v %v", s, err)
	}
	if s.Lost["grpc-status 14 UH"] != 2 || s.Lost["no grpc-status"] != 2 || len(s.Lost) != 3 {
		t.Errorf("%+v", s.Lost)
	}
}
