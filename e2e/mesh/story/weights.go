package story

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"serin.dev/e2e/mesh/load"
)

const (
	splitRequests = 2000
	flipsInAll    = 10
	flipEvery     = 1500 * time.Millisecond
)

// setWeights is what a person or a controller writes to the route of web.
func (w *world) setWeights(ctx context.Context, a, b int) error {
	destination := func(subset string, weight int) map[string]any {
		return map[string]any{"destination": map[string]any{"host": "web", "subset": subset}, "weight": weight}
	}
	return w.client.Patch(ctx, webRoute, map[string]any{"spec": map[string]any{"http": []any{
		map[string]any{"name": "web", "route": []any{destination("a", a), destination("b", b)}},
	}}})
}

// applied waits until every proxy has these weights.
func (w *world) applied(ctx context.Context, a, b int) error {
	for _, proxy := range proxies {
		err := w.until(ctx, fmt.Sprintf("%d/%d in %s", a, b, proxy.name), 10*time.Second, func() (bool, string) {
			weights, err := routeWeights(ctx, proxy.admin, webHost)
			if err != nil {
				return false, err.Error()
			}
			return weights["a"] == a && weights["b"] == b, fmt.Sprint(weights)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// split measures what comes of 90/10.
func split(ctx context.Context, w *world) error {
	if err := w.setWeights(ctx, 90, 10); err != nil {
		return err
	}
	if err := w.applied(ctx, 90, 10); err != nil {
		return err
	}
	config := w.load(webHost, time.Minute)
	config.Count = splitRequests
	report, err := load.Watched(ctx, config, func(line string) { w.say("%s", line) })
	if err != nil {
		return err
	}
	return w.keep(report, account{Story: "split"})
}

// flips measures how long the old weights live after they are changed.
func flips(ctx context.Context, w *world) error {
	if err := w.enrol(ctx, w.setting.mode == waypoint); err != nil {
		return err
	}
	if err := w.setWeights(ctx, 100, 0); err != nil {
		return err
	}
	if err := w.applied(ctx, 100, 0); err != nil {
		return err
	}
	if err := w.serves(ctx, webHost, inARow); err != nil {
		return err
	}
	var lock sync.Mutex
	var results []load.Result
	report, ended := load.NewReport(), make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		ended <- load.Run(running, w.load(webHost, time.Minute), func(result load.Result) {
			lock.Lock()
			defer lock.Unlock()
			report.Add(result)
			results = append(results, result)
		})
	}()
	var written []flip
	for n := range flipsInAll {
		if err := pause(ctx, flipEvery); err != nil {
			return err
		}
		f := flip{at: time.Now(), old: "a"}
		a, b := 0, 100
		if n%2 == 1 {
			a, b, f.old = 100, 0, "b"
		}
		if err := w.setWeights(ctx, a, b); err != nil {
			return err
		}
		f.answered = time.Since(f.at)
		written = append(written, f)
		w.say("%d/%d was written in %d ms", a, b, f.answered.Milliseconds())
	}
	if err := pause(ctx, flipEvery); err != nil {
		return err
	}
	stop()
	if err := <-ended; err != nil {
		return err
	}
	last := lastOld(written, results)
	w.say("from the PATCH to the last answer of the old version, ms: %v", last)
	return w.keep(report, account{Story: "flips", LastOld: last})
}

// flip is one change of weights.
type flip struct {
	at       time.Time
	answered time.Duration
	old      string
}

// lastOld is, for each flip, how many milliseconds after it the old version answered for the last time.
func lastOld(flips []flip, results []load.Result) []int64 {
	last := make([]int64, len(flips))
	for i, flip := range flips {
		for _, result := range results {
			done := result.At.Add(result.Duration)
			isOfThis := done.After(flip.at) && (i+1 == len(flips) || result.At.Before(flips[i+1].at))
			if isOfThis && result.Revision == flip.old {
				last[i] = max(last[i], done.Sub(flip.at).Milliseconds())
			}
		}
	}
	return last
}

// routeWeights are the weights that an Envoy has for a host, by subset.
func routeWeights(ctx context.Context, admin, host string) (map[string]int, error) {
	answer, err := asked(ctx, admin, "/config_dump?resource=dynamic_route_configs")
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	var dump dump
	if err := json.NewDecoder(answer).Decode(&dump); err != nil {
		return nil, err
	}
	return dump.weights(host), nil
}

// asked is what a port of the mesh answers; it must be closed.
func asked(ctx context.Context, address, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// dump is what is read of a proxy's routes.
type dump struct {
	Configs []struct {
		RouteConfig struct {
			VirtualHosts []struct {
				Domains []string `json:"domains"`
				Routes  []struct {
					Route struct {
						Cluster  string `json:"cluster"`
						Weighted struct {
							Clusters []struct {
								Name   string `json:"name"`
								Weight int    `json:"weight"`
							} `json:"clusters"`
						} `json:"weighted_clusters"`
					} `json:"route"`
				} `json:"routes"`
			} `json:"virtual_hosts"`
		} `json:"route_config"`
	} `json:"configs"`
}

// weights are those of a host's first route. A destination without weight is not there; a single one has all.
func (d dump) weights(host string) map[string]int {
	weights := map[string]int{}
	for _, config := range d.Configs {
		for _, virtual := range config.RouteConfig.VirtualHosts {
			if len(virtual.Routes) == 0 || !contains(virtual.Domains, host) {
				continue
			}
			route := virtual.Routes[0].Route
			if route.Cluster != "" {
				weights[subset(route.Cluster)] = 100
			}
			for _, cluster := range route.Weighted.Clusters {
				weights[subset(cluster.Name)] = cluster.Weight
			}
		}
	}
	return weights
}

func contains(domains []string, host string) bool {
	for _, domain := range domains {
		if domain == host {
			return true
		}
	}
	return false
}

// subset is that of a cluster named `outbound|80|subset|host`.
func subset(cluster string) string {
	if parts := strings.Split(cluster, "|"); len(parts) == 4 {
		return parts[2]
	}
	return cluster
}
