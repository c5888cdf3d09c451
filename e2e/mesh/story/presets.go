package story

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"serin.dev/e2e/mesh/load"
)

const (
	// presetWindow is how far each measurement of objects/presets.yaml looks back.
	presetWindow = 20 * time.Second
	// scrapeLag is how old the newest sample is on average.
	scrapeLag = 500 * time.Millisecond
	// toClient is how long an answer takes from a proxy to the load generator, in milliseconds.
	toClient = 2
)

// durationBounds are those of Envoy's histograms, in milliseconds.
var durationBounds = []float64{0, 0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000}

// analysed is what is read of the analyses of a Rollout.
type analysed struct {
	Status struct {
		Aborted *struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"aborted"`
		Analysis []struct {
			Metrics []struct {
				Name         string        `json:"name"`
				Verdict      string        `json:"verdict"`
				Measurements []measurement `json:"measurements"`
			} `json:"metrics"`
		} `json:"analysis"`
	} `json:"status"`
}

type measurement struct {
	At    time.Time `json:"at"`
	Value string    `json:"value"`
}

// comparison is one measurement beside what the load generator counted.
type comparison struct {
	Metric   string  `json:"metric"`
	Measured float64 `json:"measured"`
	Least    float64 `json:"least"`
	Most     float64 `json:"most"`
	Counted  float64 `json:"counted"`
	Requests int     `json:"requests"`
}

func (c comparison) String() string {
	return fmt.Sprintf("%-22s measured %9.4f, counted %9.4f of %4d requests, between %.4f and %.4f",
		c.Metric, c.Measured, c.Counted, c.Requests, c.Least, c.Most)
}

func (c comparison) isRight() bool { return c.Measured >= c.Least && c.Measured <= c.Most }

// presets releases an image that fails and is slow at 20 percent, until a preset aborts it, and compares what the presets
// measured with what the load generator counted in the same seconds.
func presets(ctx context.Context, w *world) error {
	if err := w.reset(ctx); err != nil {
		return err
	}
	before, err := w.setUp(ctx)
	if err != nil {
		return err
	}
	if err := w.serves(ctx, appHost, inARow); err != nil {
		return err
	}
	w.setting.annotations["mesh.serin.dev/fail"], w.setting.annotations["mesh.serin.dev/delay"] = "0.15", "60ms"
	analyse := map[string]any{"analysis": map[string]any{
		"templates": []any{map[string]any{"templateName": "presets-gate"}},
	}}
	w.setting.canary["analysis"] = map[string]any{"templates": []any{map[string]any{"templateName": "presets"}}}
	report := load.NewReport()
	results, measured, hashes, err := w.measured(ctx, report, func(ctx context.Context) error {
		return w.commit(ctx, before, 1, setWeight(20), analyse, setWeight(50))
	})
	if err != nil {
		return err
	}
	var comparisons []comparison
	var wrong []error
	for name, values := range measured {
		for _, one := range values {
			compared, err := compare(name, one, results, hashes)
			if err != nil {
				wrong = append(wrong, err)
				continue
			}
			comparisons = append(comparisons, compared)
			if !compared.isRight() {
				wrong = append(wrong, fmt.Errorf("the preset is wrong: %s", compared))
			}
		}
	}
	slices.SortStableFunc(comparisons, func(a, b comparison) int { return strings.Compare(a.Metric, b.Metric) })
	for _, one := range comparisons {
		w.say("%s", one)
	}
	// Istio knows no owner of a ReplicaSet but a Deployment, or a Rollout of Argo.
	workload := "checkout-" + hashes["canary"]
	labels, err := series(ctx, fmt.Sprintf(`istio_requests_total{destination_canonical_revision=%q,destination_workload=%q}`, hashes["canary"], workload))
	if len(labels) == 0 {
		wrong = append(wrong, errors.Join(err, fmt.Errorf("no request of workload %s", workload)))
	}
	if len(comparisons) < 12 {
		wrong = append(wrong, fmt.Errorf("only %d measurements were taken", len(comparisons)))
	}
	wrong = append(wrong, w.keep(report, account{Story: "presets", Mode: w.setting.mode, Pods: exits, Comparisons: comparisons}))
	return errors.Join(wrong...)
}

// measured sends requests while a commit is released, until it is aborted by the gate: every result, every measurement by the
// name of its metric, and the hashes of stable and canary.
func (w *world) measured(ctx context.Context, report *load.Report, commit func(context.Context) error) ([]load.Result, map[string][]measurement, map[string]string, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var results []load.Result
	ended := make(chan error, 1)
	go func() {
		ended <- load.Run(running, w.load(appHost, storyMost), func(result load.Result) {
			report.Add(result)
			results = append(results, result)
		})
	}()
	told := pause(ctx, w.quiet)
	if told == nil {
		told = commit(ctx)
	}
	var seen analysed
	hashes := map[string]string{}
	if told == nil {
		told = w.until(ctx, "the abort", storyMost, func() (bool, string) {
			r, err := w.rollout(ctx)
			var now analysed
			if err == nil {
				err = w.client.Get(ctx, rolloutPath, &now)
			}
			if err != nil {
				return false, err.Error()
			}
			if r.Status.Observed == r.Metadata.Generation && len(now.Status.Analysis) > 0 {
				seen = now
				hashes["stable"], hashes["canary"] = r.Status.Stable.Hash, r.Status.Canary.Hash
			}
			isAborted := r.Status.Observed == r.Metadata.Generation && now.Status.Aborted != nil
			return isAborted, fmt.Sprintf("%s %s %s", r.Status.Phase, r.Status.Step, r.Status.Message)
		})
	}
	stop()
	if err := <-ended; told == nil {
		told = err
	}
	if told != nil {
		return nil, nil, nil, told
	}
	w.say("aborted: %s: %s", seen.Status.Aborted.Reason, seen.Status.Aborted.Message)
	if !strings.Contains(seen.Status.Aborted.Message, "metric gate") {
		return nil, nil, nil, errors.New("something else than the gate aborted it")
	}
	measured := map[string][]measurement{}
	for _, analysis := range seen.Status.Analysis {
		for _, metric := range analysis.Metrics {
			measured[metric.Name] = metric.Measurements
		}
	}
	return results, measured, hashes, nil
}

// compare counts the requests of a measurement's window; the name of its metric says what it measures, and of which side.
func compare(name string, measured measurement, results []load.Result, hashes map[string]string) (comparison, error) {
	words := strings.Split(name, "-")
	if name == "gate" {
		words = []string{"success", "canary"}
	}
	value, err := strconv.ParseFloat(measured.Value, 64)
	if err != nil {
		return comparison{}, fmt.Errorf("%s measured %q", name, measured.Value)
	}
	compared := comparison{Metric: name, Measured: value}
	until := measured.At.Add(-scrapeLag)
	var millis []float64
	good := 0
	for _, result := range results {
		ended := result.At.Add(result.Duration)
		if result.Revision != hashes[words[1]] || ended.Before(until.Add(-presetWindow)) || ended.After(until) {
			continue
		}
		millis = append(millis, result.Millis)
		if result.Status == http.StatusOK {
			good++
		}
	}
	compared.Requests = len(millis)
	if compared.Requests == 0 {
		return compared, fmt.Errorf("%s: no request of %s was counted", name, words[1])
	}
	slices.Sort(millis)
	at := func(quantile float64) float64 { return millis[int(quantile*float64(len(millis)-1))] }
	switch words[0] {
	case "success":
		// The window's ends differ by a scrape, which is a twentieth of it.
		compared.Counted = float64(good) / float64(compared.Requests)
		compared.Least, compared.Most = compared.Counted-0.02, compared.Counted+0.02
	case "rate":
		compared.Counted = float64(compared.Requests) / presetWindow.Seconds()
		compared.Least, compared.Most = compared.Counted*0.93, compared.Counted*1.07
	case "duration":
		// A histogram knows no more than its bounds, and the proxy nothing of the way to a client that is busy.
		compared.Counted = at(0.95)
		compared.Least, compared.Most = bounds(at(0.50)-toClient, at(0.99))
	default:
		return compared, fmt.Errorf("%s is not known", name)
	}
	return compared, nil
}

// bounds are those around two durations.
func bounds(least, most float64) (float64, float64) {
	below, above := 0.0, math.Inf(1)
	for _, bound := range durationBounds {
		if bound <= least {
			below = bound
		}
		if bound >= most && math.IsInf(above, 1) {
			above = bound
		}
	}
	return below, above
}
