package balance

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"testing"
)

// says is a server that tells its name to each connection.
func says(t *testing.T, name string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(connection, name)
			connection.Close()
		}
	}()
	return listener
}

func TestConnectionsTakeTurnsAmongThoseThatAnswer(t *testing.T) {
	one, two := says(t, "one"), says(t, "two")
	defer two.Close()
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, service, []string{one.Addr().String(), two.Addr().String()}) }()
	ask := func() string {
		connection, err := net.Dial("tcp", service.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		line, _ := bufio.NewReader(connection).ReadString('\n')
		return line
	}
	if got := ask() + ask() + ask(); got != "one\ntwo\none\n" {
		t.Error(got)
	}
	one.Close()
	if got := ask() + ask() + ask(); got != "two\ntwo\ntwo\n" {
		t.Error(got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
