// Package story tells short stories on the data plane under load, and says what was lost.
package story

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"serin.dev/e2e/mesh/kube"
	"serin.dev/e2e/mesh/load"
)

// Hosts and paths of objects/.
const (
	webHost      = "web.shop.svc.cluster.local"
	checkoutHost = "checkout.shop.svc.cluster.local"
	webRoute     = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/web"
	rolloutPath  = "/apis/serin.dev/v1alpha1/namespaces/shop/rollouts/checkout"
	actionsPath  = "/apis/serin.dev/v1alpha1/namespaces/shop/rolloutactions"
)

// proxy is one Envoy: where it is asked, and where its admin port is.
type proxy struct{ name, address, admin string }

var proxies = []proxy{
	{"gw-1", "127.0.0.100:8080", "127.0.0.1:15000"},
	{"gw-2", "127.0.0.102:8080", "127.0.0.1:15002"},
	{"client", "127.0.0.101:80", "127.0.0.1:15001"},
}

// world is what every story has.
type world struct {
	client *kube.Client
	dir    string
	name   string
	rate   int
	// canary are fields of strategy.canary, and annotations those of the pod template, that every commit has.
	canary      map[string]any
	annotations map[string]any
	// churn is the time between two writes of a foreign route during the load; 0 for none.
	churn   time.Duration
	started time.Time
}

// Command tells one story.
func Command(ctx context.Context, arguments []string) error {
	stories := map[string]func(context.Context, *world) error{
		"first": first, "ready": ready, "split": split, "flips": flips, "canary": canary, "abort": abort, "supersede": supersede,
		"istiod-stopped": istiodStopped, "presets": presets, "unreached": unreached,
	}
	if len(arguments) == 0 || stories[arguments[0]] == nil {
		return errors.New("usage: mesh story first|ready|split|flips|canary|abort|supersede|istiod-stopped|presets|unreached [FLAGS]")
	}
	tell := stories[arguments[0]]
	w := &world{name: arguments[0], canary: map[string]any{}, annotations: map[string]any{}, started: time.Now()}
	flags := flag.NewFlagSet("story", flag.ExitOnError)
	flags.StringVar(&w.dir, "dir", ".", "folder for the account and the lost requests, with the process ids of e2e/mesh/run")
	flags.IntVar(&w.rate, "rate", 300, "requests a second, over all proxies")
	flags.StringVar(&w.name, "name", w.name, "name of the files")
	flags.DurationVar(&w.churn, "churn", 0, "time between two writes of a foreign route, which delay istiod's pushes; 0 for none")
	flags.Func("canary", "fields of strategy.canary, as JSON", func(text string) error {
		return json.Unmarshal([]byte(text), &w.canary)
	})
	flags.Func("annotate", "NAME=VALUE, an annotation of the pods; repeatable", func(text string) error {
		name, value, found := strings.Cut(text, "=")
		if !found {
			return errors.New("NAME=VALUE is expected")
		}
		w.annotations[name] = value
		return nil
	})
	_ = flags.Parse(arguments[1:])
	var err error
	if w.client, err = kube.FromEnvironment(); err != nil {
		return err
	}
	return tell(ctx, w)
}

// say prints a line with the time since the story began.
func (w *world) say(format string, args ...any) {
	fmt.Printf("%6.2f  %s\n", time.Since(w.started).Seconds(), fmt.Sprintf(format, args...))
}

// load is a load on all proxies.
func (w *world) load(host string, atMost time.Duration) load.Config {
	config := load.Config{Host: host, Rate: w.rate, Duration: atMost, Timeout: 10 * time.Second}
	for _, proxy := range proxies {
		config.Targets = append(config.Targets, proxy.address)
	}
	return config
}

// keep writes a story's account beside its lost requests, and prints it.
func (w *world) keep(report *load.Report, facts map[string]any) error {
	summary := report.Summary()
	summary.Write(os.Stdout)
	all := map[string]any{"story": os.Args[2:], "summary": summary}
	for name, fact := range facts {
		all[name] = fact
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.dir, w.name+".json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return load.WriteLost(filepath.Join(w.dir, w.name+".lost.jsonl"), report.Lost())
}

// until waits until something is so, and says every ten seconds what it waits for.
func (w *world) until(ctx context.Context, what string, atMost time.Duration, is func() (bool, string)) error {
	begun, said := time.Now(), time.Now()
	for {
		so, seen := is()
		switch {
		case so:
			return nil
		case time.Since(begun) > atMost:
			return fmt.Errorf("%s did not come within %s: %s", what, atMost, seen)
		case time.Since(said) > 10*time.Second:
			said = time.Now()
			w.say("waits for %s: %s", what, seen)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, duration time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(duration):
		return nil
	}
}

// answered waits until every proxy answers by 200 for a host.
func (w *world) answered(ctx context.Context, host string) error {
	client := http.Client{Timeout: 10 * time.Second}
	for _, proxy := range proxies {
		err := w.until(ctx, "the first 200 of "+proxy.name, time.Minute, func() (bool, string) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxy.address+"/", nil)
			if err != nil {
				return false, err.Error()
			}
			request.Host = host
			answer, err := client.Do(request)
			if err != nil {
				return false, err.Error()
			}
			answer.Body.Close()
			return answer.StatusCode == http.StatusOK, answer.Status
		})
		if err != nil {
			return err
		}
		w.say("%s answers for %s", proxy.name, host)
	}
	return nil
}

// first waits for the first 200 of every proxy.
func first(ctx context.Context, w *world) error { return w.answered(ctx, webHost) }

// ready waits for the same of what Serin releases.
func ready(ctx context.Context, w *world) error {
	_, err := w.healthy(ctx)
	return err
}
