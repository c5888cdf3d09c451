// Package load sends a steady number of requests a second to proxies, and accounts for every one of them.
package load

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"serin.dev/e2e/mesh/echo"
	"serin.dev/e2e/mesh/identity"
)

// Bounds of every run, whatever is asked for.
const (
	rateMost     = 2000
	durationMost = 15 * time.Minute
	inFlightMost = 5000
)

// Headers that the proxies add to the answers that they give themselves; objects/mesh.yaml says so.
const (
	flagsHeader   = "X-Envoy-Flags"
	detailsHeader = "X-Envoy-Details"
	clusterHeader = "X-Envoy-Cluster"
)

// Config is one run.
type Config struct {
	// Targets are the addresses that take turns.
	Targets []string
	// Host is the host that is asked for.
	Host string
	// Rate is requests a second over all targets.
	Rate int
	// Count and Duration end the run, whichever comes first; a Count of 0 leaves it to Duration.
	Count    int
	Duration time.Duration
	// Timeout is how long one request may take.
	Timeout time.Duration
	// Lines makes a connection of each request, which sends a line and waits for one.
	Lines bool
	// Calls makes a unary gRPC call of each request.
	Calls bool
	// Tunnel leads to the targets, which are waypoints; none where they are asked themselves.
	Tunnel *Tunnel
	// PinnedEvery is how many requests there are to one that asks for the canary by PinHeader; 0 for none.
	PinnedEvery int
}

// PinHeader is "true" in the requests that ask for the canary.
const PinHeader = "x-canary"

// Flags registers the settings of a run.
func (c *Config) Flags(flags *flag.FlagSet) {
	flags.Func("to", "address of a proxy; repeatable", func(address string) error {
		c.Targets = append(c.Targets, address)
		return nil
	})
	flags.StringVar(&c.Host, "host", "web.shop.svc.cluster.local", "host that is asked for")
	flags.IntVar(&c.Rate, "rate", 300, "requests a second, over all proxies")
	flags.IntVar(&c.Count, "count", 0, "requests in all; 0 leaves it to the time")
	flags.DurationVar(&c.Duration, "for", 30*time.Second, "time")
	flags.Func("tunnel", "FILE,ADDRESS: the proxies are waypoints, asked as who the file of mesh identity is for a Service's address with its port", func(text string) error {
		file, authority, found := strings.Cut(text, ",")
		if !found {
			return errors.New("FILE,ADDRESS is expected")
		}
		c.Tunnel = &Tunnel{Authority: authority, Identity: file, Waypoint: identity.Of("shop", "waypoint")}
		return nil
	})
	flags.BoolVar(&c.Calls, "grpc", false, "send unary gRPC calls, by HTTP/2 without TLS")
	flags.DurationVar(&c.Timeout, "timeout", 10*time.Second, "time that one request may take")
}

// check refuses runs without bounds, and targets outside loopback.
func (c *Config) check() error {
	if c.Rate < 1 || c.Rate > rateMost {
		return fmt.Errorf("a rate of %d is not between 1 and %d", c.Rate, rateMost)
	}
	if c.Duration <= 0 || c.Duration > durationMost {
		return fmt.Errorf("%s is not between 0 and %s", c.Duration, durationMost)
	}
	if len(c.Targets) == 0 {
		return errors.New("no target")
	}
	for _, target := range c.Targets {
		host, _, err := net.SplitHostPort(target)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			return fmt.Errorf("%s is not on loopback", target)
		}
	}
	return nil
}

// Result is what became of one request.
type Result struct {
	At       time.Time     `json:"at"`
	Target   string        `json:"target"`
	Pinned   bool          `json:"pinned,omitempty"`
	Status   int           `json:"status"`
	GRPC     string        `json:"grpcStatus,omitempty"`
	Revision string        `json:"revision,omitempty"`
	Pod      string        `json:"pod,omitempty"`
	Flags    string        `json:"flags,omitempty"`
	Details  string        `json:"details,omitempty"`
	Cluster  string        `json:"cluster,omitempty"`
	Error    string        `json:"error,omitempty"`
	Duration time.Duration `json:"-"`
	Millis   float64       `json:"ms"`
}

// Run sends the requests of a run and reports each result, one at a time, until all are answered.
func Run(ctx context.Context, config Config, see func(Result)) error {
	if err := config.check(); err != nil {
		return err
	}
	client, ended, err := config.client()
	if err != nil {
		return err
	}
	defer ended()
	results, counted := make(chan Result, inFlightMost), make(chan struct{})
	go func() {
		defer close(counted)
		for result := range results {
			see(result)
		}
	}()
	var open sync.WaitGroup
	room := make(chan struct{}, inFlightMost)
	start := time.Now()
	for n := 0; config.Count == 0 || n < config.Count; n++ {
		due := start.Add(time.Duration(n) * time.Second / time.Duration(config.Rate))
		if due.Sub(start) >= config.Duration {
			break
		}
		if !sleepUntil(ctx, due) {
			break
		}
		target := config.Targets[n%len(config.Targets)]
		room <- struct{}{}
		isPinned := config.PinnedEvery > 0 && n%config.PinnedEvery == 0
		open.Go(func() {
			results <- config.send(client, target, isPinned)
			<-room
		})
	}
	open.Wait()
	close(results)
	<-counted
	return nil
}

// client sends the requests of a run; ended is called after the last of them.
func (c Config) client() (client *http.Client, ended func(), err error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 1000, IdleConnTimeout: time.Minute, DisableCompression: true}
	if c.Calls {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	ended = transport.CloseIdleConnections
	if c.Tunnel != nil {
		dial, closed, err := c.Tunnel.dialer()
		if err != nil {
			return nil, nil, err
		}
		transport.DialContext = dial
		ended = func() {
			transport.CloseIdleConnections()
			closed()
		}
	}
	return &http.Client{Timeout: c.Timeout, Transport: transport}, ended, nil
}

// Ask sends one request outside of any run.
func (c Config) Ask(target string) Result {
	client, ended, err := c.client()
	if err != nil {
		return Result{At: time.Now(), Target: target, Error: err.Error()}
	}
	defer ended()
	return c.send(client, target, false)
}

// sleepUntil says whether that moment came.
func sleepUntil(ctx context.Context, due time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Until(due)):
		return ctx.Err() == nil
	}
}

// send sends one request. It never depends on the context of the run: what was begun is finished.
func (c Config) send(client *http.Client, target string, isPinned bool) Result {
	result := Result{At: time.Now(), Target: target, Pinned: isPinned}
	switch {
	case c.Lines:
		result.finishLine(target, c.Timeout)
	case c.Calls:
		result.finishCall(client, target, c.Host)
	default:
		result.finish(client, target, c.Host)
	}
	result.Duration = time.Since(result.At)
	result.Millis = float64(result.Duration.Microseconds()) / 1000
	return result
}

func (r *Result) finish(client *http.Client, target, host string) {
	request, err := http.NewRequest(http.MethodGet, "http://"+target+"/", nil)
	if err != nil {
		r.Error = err.Error()
		return
	}
	_, _ = r.ask(client, request, host)
}

// ask sends a request and takes the answer whole; none where that fails.
func (r *Result) ask(client *http.Client, request *http.Request, host string) (*http.Response, bool) {
	request.Host = host
	if r.Pinned {
		request.Header.Set(PinHeader, "true")
	}
	answer, err := client.Do(request)
	if err != nil {
		r.Error = cause(err)
		return nil, false
	}
	defer answer.Body.Close()
	r.Status = answer.StatusCode
	r.Revision, r.Pod = answer.Header.Get(echo.RevisionHeader), answer.Header.Get(echo.PodHeader)
	r.Flags, r.Details, r.Cluster = answer.Header.Get(flagsHeader), answer.Header.Get(detailsHeader), answer.Header.Get(clusterHeader)
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		r.Error = cause(err)
		return nil, false
	}
	return answer, true
}

// streamID differs with each call.
var streamID = regexp.MustCompile(`stream ID \d+; `)

// cause is an error without addresses: the target's is in the result, and the other end's differs each time.
func cause(err error) string {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	var network *net.OpError
	if errors.As(err, &network) && network.Err != nil {
		return network.Op + ": " + network.Err.Error()
	}
	return streamID.ReplaceAllString(err.Error(), "")
}
