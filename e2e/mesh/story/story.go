// Package story tells short stories on the data plane under load, and says what was lost.
package story

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"serin.dev/e2e/mesh/identity"
	"serin.dev/e2e/mesh/kube"
	"serin.dev/e2e/mesh/load"
)

// Host and path of objects/web.yaml.
const (
	webHost  = "web.shop.svc.cluster.local"
	webRoute = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/web"
)

// proxy is one Envoy: where it is asked for HTTP, for lines and for what HTTPRoutes lead, and where its admin port is.
type proxy struct{ name, address, lines, routed, admin string }

// proxies are all of them. The client's takes no TCP: which Service a connection means, its port alone would say.
var proxies = []proxy{
	{"gw-1", "127.0.0.100:8080", "127.0.0.100:9000", "127.0.0.100:8101", "127.0.0.1:15000"},
	{"gw-2", "127.0.0.102:8080", "127.0.0.102:9000", "127.0.0.102:8102", "127.0.0.1:15002"},
	{"client", "127.0.0.101:80", "", "127.0.0.101:80", "127.0.0.1:15001"},
}

// atWaypoint is where the waypoint takes tunnels, and who it is.
const atWaypoint = "127.0.0.103:15008"

// world is what every story has.
type world struct {
	client *kube.Client
	// dir has the process ids of e2e/mesh/run, out what is kept of a story, name is that of its files.
	dir, out, name string
	rate           int
	// quiet is how long the load runs before a story begins and after it ends, and some of its pauses.
	quiet time.Duration
	// churn is the time between two writes of a foreign route during the load; 0 for none.
	churn time.Duration
	// weights are the steps of a canary that goes through.
	weights []any
	seed    int64
	setting setting
	story   story
	// wide is whether there is what e2e/mesh/run --wide starts.
	wide bool
	// only is the one proxy that is asked; empty for all.
	only string

	said    sync.Mutex
	log     io.Writer
	started time.Time
}

// say prints a line with the time since the story began.
func (w *world) say(format string, args ...any) {
	w.said.Lock()
	defer w.said.Unlock()
	fmt.Fprintf(w.log, "%6.2f  %s\n", w.elapsed(), fmt.Sprintf(format, args...))
}

// elapsed is how many seconds ago the story began.
func (w *world) elapsed() float64 { return time.Since(w.started).Seconds() }

// asked are the proxies that the load asks.
func (w *world) asked() []proxy {
	var asked []proxy
	for _, proxy := range proxies {
		if (w.only == "" || w.only == proxy.name) && (!w.setting.lines || proxy.lines != "") {
			asked = append(asked, proxy)
		}
	}
	return asked
}

// load is a load on all proxies that are asked.
func (w *world) load(host string, atMost time.Duration) load.Config {
	config := load.Config{
		Host: host, Rate: w.rate, Duration: atMost, Timeout: 10 * time.Second, Lines: w.setting.lines, Calls: w.setting.calls,
	}
	for _, proxy := range w.asked() {
		switch {
		case w.setting.lines:
			config.Targets = append(config.Targets, proxy.lines)
		case w.setting.mode == httpRoute && host == appHost:
			config.Targets = append(config.Targets, proxy.routed)
		default:
			config.Targets = append(config.Targets, proxy.address)
		}
	}
	if w.setting.mode == waypoint {
		config.Targets = []string{atWaypoint}
		config.Tunnel = &load.Tunnel{
			Authority: vips[host] + ":80", Identity: filepath.Join(w.dir, "client.pem"), Waypoint: identity.Of("shop", "waypoint"),
		}
	}
	if w.story.load != nil {
		w.story.load(&config)
	}
	return config
}

// keep writes a story's account beside its lost requests, and prints it.
func (w *world) keep(report *load.Report, a account) error {
	a.Summary = report.Summary()
	a.Summary.Write(w.log)
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.out, w.name+".json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return w.keepLost(report)
}

// shown is how many lost requests are told one by one.
const shown = 50

// keepLost writes the lost requests, where there are any, and tells when the first of them were sent.
func (w *world) keepLost(report *load.Report) error {
	lost := report.Lost()
	if len(lost) == 0 {
		return nil
	}
	for n, one := range lost {
		if n == shown {
			fmt.Fprintf(w.log, "        and %d more\n", len(lost)-n)
			break
		}
		fmt.Fprintf(w.log, "%6.2f  lost at %s: %s\n", one.At.Sub(w.started).Seconds(), one.Target, one.Reason())
	}
	return load.WriteLost(filepath.Join(w.out, w.name+".lost.jsonl"), report.Lost())
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
