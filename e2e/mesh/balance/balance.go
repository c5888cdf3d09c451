// Package balance is a Service in the place of kube-proxy: each connection goes to the next address that takes it.
package balance

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// dialMost is how long an address may take.
const dialMost = time.Second

// Command hands connections on until the context is done.
func Command(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("balance", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:15010", "address of the Service")
	to := flags.String("to", "", "addresses behind it, by commas")
	_ = flags.Parse(arguments)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	return Serve(ctx, listener, strings.Split(*to, ","))
}

// Serve hands the connections of a listener on, each to the next address that takes it.
func Serve(ctx context.Context, listener net.Listener, to []string) error {
	go func() {
		<-ctx.Done()
		_ = listener.Close()
	}()
	var turn atomic.Uint64
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		first := turn.Add(1) - 1
		go func() {
			defer client.Close()
			for at := range to {
				server, err := net.DialTimeout("tcp", to[(first+uint64(at))%uint64(len(to))], dialMost)
				if err == nil {
					join(client, server)
					return
				}
			}
		}()
	}
}

// join copies both ways until either ends.
func join(client, server net.Conn) {
	var end sync.Once
	both := func() {
		_ = client.Close()
		_ = server.Close()
	}
	var open sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		open.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			end.Do(both)
		})
	}
	open.Wait()
}
