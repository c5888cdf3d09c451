// Package echo is what runs in a pod: it answers with the pod's name and revision, and misbehaves on demand.
package echo

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Headers of every answer.
const (
	PodHeader      = "X-Pod"
	RevisionHeader = "X-Revision"
)

// Settings is how one pod behaves.
type Settings struct {
	Address string
	// Lines is an address where each line of a connection is answered by one; empty for none.
	Lines    string
	Pod      string
	Revision string
	// Start is how long the process takes until it listens.
	Start time.Duration
	// Delay is how long an answer takes.
	Delay time.Duration
	// Fail is the fraction of requests that are answered by 500, and of calls by an internal error.
	Fail float64
	// Drain is how long it accepts after SIGTERM, before it finishes what is in flight; 0 exits at once.
	Drain time.Duration
	// Inherited ends the process when standard input does, and so with the one who started it.
	Inherited bool
}

// Flags registers the settings.
func (s *Settings) Flags(flags *flag.FlagSet) {
	flags.StringVar(&s.Address, "listen", "127.0.0.1:8080", "address to listen on")
	flags.StringVar(&s.Lines, "lines", "", "address where each line of a connection is answered by one")
	flags.StringVar(&s.Pod, "pod", "", "name of the pod")
	flags.StringVar(&s.Revision, "revision", "", "revision of the pod")
	flags.DurationVar(&s.Start, "start", 0, "time until it listens")
	flags.DurationVar(&s.Delay, "delay", 0, "time that an answer takes")
	flags.Float64Var(&s.Fail, "fail", 0, "fraction of requests that are answered by 500")
	flags.DurationVar(&s.Drain, "drain", 0, "time that it accepts after SIGTERM; 0 exits at once")
	flags.BoolVar(&s.Inherited, "inherited", false, "exit when standard input ends")
}

// Arguments is the command line of these settings.
func (s Settings) Arguments() []string {
	return []string{
		"-listen", s.Address, "-lines", s.Lines, "-pod", s.Pod, "-revision", s.Revision, "-start", s.Start.String(), "-delay", s.Delay.String(),
		"-fail", fmt.Sprint(s.Fail), "-drain", s.Drain.String(), fmt.Sprintf("-inherited=%v", s.Inherited),
	}
}

// Command serves until SIGTERM.
func Command(arguments []string) error {
	flags := flag.NewFlagSet("echo", flag.ExitOnError)
	var s Settings
	s.Flags(flags)
	_ = flags.Parse(arguments)
	if s.Inherited {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	select {
	case <-terminated:
		return nil
	case <-time.After(s.Start):
	}
	if s.Lines != "" {
		listener, err := net.Listen("tcp", s.Lines)
		if err != nil {
			return err
		}
		go s.serveLines(listener)
	}
	listener, err := net.Listen("tcp", s.Address)
	if err != nil {
		return err
	}
	return s.serve(listener, terminated)
}

// serve answers until it is terminated, and then as the settings say.
func (s Settings) serve(listener net.Listener, terminated <-chan os.Signal) error {
	server := &http.Server{Handler: s, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-terminated:
	}
	if s.Drain == 0 {
		return server.Close()
	}
	time.Sleep(s.Drain)
	return server.Shutdown(context.Background())
}

func (s Settings) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	time.Sleep(s.Delay)
	answer.Header().Set(PodHeader, s.Pod)
	answer.Header().Set(RevisionHeader, s.Revision)
	fails := rand.Float64() < s.Fail
	if request.Header.Get("Content-Type") == GRPC {
		s.answerCall(answer, request, fails)
		return
	}
	if fails {
		answer.WriteHeader(http.StatusInternalServerError)
	}
	fmt.Fprintf(answer, "%s %s\n", s.Pod, s.Revision)
}
