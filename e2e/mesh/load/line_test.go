package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"testing"
	"time"
)

// listen answers each line of a connection so, or closes the connection where that is empty.
func listen(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			if bufio.NewScanner(connection).Scan() && answer != "" {
				fmt.Fprintln(connection, answer)
			}
			connection.Close()
		}
	}()
	return listener.Addr().String()
}

func TestLines(t *testing.T) {
	config := Config{
		Targets: []string{listen(t, "pod-1 a"), listen(t, ""), "127.0.0.1:1", listen(t, "what")},
		Rate:    1000, Count: 40, Duration: time.Minute, Timeout: time.Second, Lines: true,
	}
	report, err := Watched(context.Background(), config, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	s := report.Summary()
	if s.Answered["a"] != 10 || s.Lost["closed before an answer"] != 10 || s.Lost["dial: connect: connection refused"] != 10 || s.Lost["no pod's line: what"] != 10 {
		t.Errorf("%+v", s)
	}
}
