// Command mesh holds the small programs of the data plane: echo servers in the place of containers, their runner, a load
// generator, the bootstrap of Envoy, and the stories told on them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"serin.dev/e2e/mesh/balance"
	"serin.dev/e2e/mesh/bootstrap"
	"serin.dev/e2e/mesh/echo"
	"serin.dev/e2e/mesh/identity"
	"serin.dev/e2e/mesh/keep"
	"serin.dev/e2e/mesh/load"
	"serin.dev/e2e/mesh/pods"
	"serin.dev/e2e/mesh/story"
)

const usage = `usage: mesh COMMAND [FLAGS]   (mesh COMMAND -h shows the flags)
  bootstrap   prints the bootstrap of one Envoy
  balance     hands connections on to several addresses in turns, as a Service
  identity    prints a key, and what istiod certifies of it
  secrets     gives an Envoy its certificates
  echo        answers with its pod's name and revision
  pods        runs an echo process for every pod of the API server
  keep        starts a program again whenever it is killed
  load        sends a steady number of requests a second, and counts what is lost
  story       waits, measures, or tells one story
  table       tells many stories in many ways, and writes what was lost as a table`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	// An echo process decides itself what SIGTERM means.
	if os.Args[1] == "echo" {
		end(echo.Command(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch os.Args[1] {
	case "bootstrap":
		end(bootstrap.Command(os.Args[2:]))
	case "balance":
		end(balance.Command(ctx, os.Args[2:]))
	case "identity":
		end(identity.Command(ctx, os.Args[2:]))
	case "secrets":
		end(identity.Secrets(ctx, os.Args[2:]))
	case "pods":
		end(pods.Command(ctx, os.Args[2:]))
	case "keep":
		end(keep.Command(ctx, os.Args[2:]))
	case "load":
		end(load.Command(ctx, os.Args[2:]))
	case "story":
		end(story.Command(ctx, os.Args[2:]))
	case "table":
		end(story.Table(ctx, os.Args[2:]))
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "mesh:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
