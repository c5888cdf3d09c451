// Command gitops stands beside the GitOps engines of the stories: it writes down what they write, makes artifacts of
// commits for Flux, and asks both each second to look at Git.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"serin.dev/e2e/gitops/record"
	"serin.dev/e2e/gitops/source"
	"serin.dev/e2e/mesh/kube"
)

// idle is how long a connection may stay without a request: kustomize-controller makes clients anew whenever it looks.
const idle = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	engines := flag.String("engines", "", "loopback address that the engines have in the place of the API server's")
	artifacts := flag.String("artifacts", "", "loopback address that Flux fetches commits from; absent where no engine has its objects in this cluster")
	repositories := flag.String("repositories", "", "folder with a Git repository for each namespace")
	writes := flag.String("writes", "", "file that gets a line of JSON for each write of an engine")
	flag.Parse()
	client, err := kube.FromEnvironment()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(*writes, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	recorder, err := record.New(client, file)
	if err != nil {
		return err
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	tasks.Go(func() { stop(serve(ctx, *engines, recorder)) })
	if *artifacts != "" {
		server := source.New(client, *repositories, "http://"+*artifacts)
		tasks.Go(func() { stop(serve(ctx, *artifacts, server)) })
		tasks.Go(func() { server.Follow(ctx) })
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func serve(ctx context.Context, address string, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, IdleTimeout: idle}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	return server.Serve(listener)
}
