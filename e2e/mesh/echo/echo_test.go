package echo

import (
	"flag"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestArgumentsAreReadBack(t *testing.T) {
	want := Settings{
		Address: "127.0.0.1:1", Lines: "127.0.0.1:2", Pod: "p", Revision: "r", Start: time.Second, Delay: time.Millisecond, Fail: 0.25,
		Drain: 2 * time.Second, Inherited: true,
	}
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	var got Settings
	got.Flags(flags)
	if err := flags.Parse(want.Arguments()); err != nil || got != want {
		t.Errorf("read %+v, want %+v (%v)", got, want, err)
	}
}

// terminate starts a server, sends a slow request, terminates it, and says how that request and the next one ended.
func terminate(t *testing.T, s Settings) (inFlight, later error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	terminated, ended := make(chan os.Signal, 1), make(chan error, 1)
	go func() { ended <- s.serve(listener, terminated) }()
	get := func() error {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get("http://" + listener.Addr().String())
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	first := make(chan error, 1)
	go func() { first <- get() }()
	time.Sleep(50 * time.Millisecond)
	terminated <- syscall.SIGTERM
	time.Sleep(50 * time.Millisecond)
	later = get()
	inFlight = <-first
	<-ended
	return inFlight, later
}

func TestTermination(t *testing.T) {
	inFlight, later := terminate(t, Settings{Delay: 300 * time.Millisecond})
	if inFlight == nil || later == nil {
		t.Errorf("exit at once: %v, %v", inFlight, later)
	}
	inFlight, later = terminate(t, Settings{Delay: 300 * time.Millisecond, Drain: time.Second})
	if inFlight != nil || later != nil {
		t.Errorf("drain: %v, %v", inFlight, later)
	}
}

func TestFraction(t *testing.T) {
	for fail, want := range map[float64]int{0: http.StatusOK, 1: http.StatusInternalServerError} {
		answer := &recorder{header: http.Header{}, status: http.StatusOK}
		Settings{Pod: "p", Revision: "r", Fail: fail}.ServeHTTP(answer, &http.Request{})
		if answer.status != want || answer.header.Get(RevisionHeader) != "r" {
			t.Errorf("fail %v: %d %v", fail, answer.status, answer.header)
		}
	}
}

// recorder keeps what was answered.
type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header            { return r.header }
func (r *recorder) Write(text []byte) (int, error) { return len(text), nil }
func (r *recorder) WriteHeader(status int)         { r.status = status }
