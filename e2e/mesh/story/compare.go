package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"serin.dev/e2e/mesh/load"
)

// Shares of requests that fail: the canary's is twice stable's, and what the usual fixed threshold of 95 % lets pass.
const (
	stableFails = "0.024"
	canaryFails = "0.048"
)

// comparing is what all analyses have in common: pods warm up faster here than elsewhere, and time is short.
var comparing = object{"analysis": object{"warmup": "10s", "onInconclusive": "pause"}}

// weighing are steps with the evidence of a sequential test, beside a fixed threshold.
func weighing(atMost string, templates ...string) []any {
	var named []any
	for _, template := range templates {
		named = append(named, object{"templateName": template})
	}
	return []any{setWeight(5), object{"analysis": object{"templates": named, "until": "decided", "atMost": atMost}}, setWeight(50)}
}

// templates are those of the steps. Errors are drawn one by one here, so that nothing has to guard against bursts of them.
func comparedTemplates() []object {
	metric := func(name string, spec object) object {
		return named("serin.dev/v1alpha1", "AnalysisTemplate", name, object{"metrics": []any{spec}})
	}
	return []object{
		metric("compared", object{
			"name": "compared", "interval": "5s", "compare": object{"preset": "istio-5xx", "dispersion": "none", "lag": "3s"},
		}),
		metric("threshold", object{
			"name": "threshold", "interval": "5s", "count": 1000, "initialDelay": "30s", "failureLimit": 3,
			"successCondition": "result[0] >= 0.95", "istio": object{"metric": "requestSuccessRate", "window": "1m"},
		}),
	}
}

// beginFailing makes a Rollout whose stable fails now and then.
func beginFailing(ctx context.Context, w *world) (*rollout, error) {
	if err := w.apply(ctx, comparedTemplates()...); err != nil {
		return nil, err
	}
	w.setting.annotations["mesh.serin.dev/fail"] = stableFails
	return w.setUp(ctx)
}

// judged is what is read of the metrics' verdicts.
type judged struct {
	Status struct {
		Analysis []struct {
			Metrics []struct {
				Name     string `json:"name"`
				Verdict  string `json:"verdict"`
				Evidence struct {
					Verdict string `json:"verdict"`
					Message string `json:"message"`
				} `json:"evidence"`
			} `json:"metrics"`
		} `json:"analysis"`
	} `json:"status"`
}

// verdicts are those of the metrics, by name, and what the test says.
func (w *world) verdicts(ctx context.Context) (map[string]string, string, error) {
	var r judged
	if err := w.client.Get(ctx, rolloutPath, &r); err != nil {
		return nil, "", err
	}
	verdicts, evidence := map[string]string{}, ""
	for _, analysis := range r.Status.Analysis {
		for _, metric := range analysis.Metrics {
			verdicts[metric.Name] = metric.Verdict
			if metric.Evidence.Message != "" {
				evidence = metric.Evidence.Verdict + ": " + metric.Evidence.Message
			}
		}
	}
	return verdicts, evidence, nil
}

// doubled releases an image that fails twice as often as stable: the comparison sees it, and the threshold beside it does not.
func doubled(ctx context.Context, w *world, before *rollout) error {
	w.setting.annotations["mesh.serin.dev/fail"] = canaryFails
	began := time.Now()
	if err := w.commit(ctx, before, 1); err != nil {
		return err
	}
	if err := w.aborted(ctx, before, "metric compared"); err != nil {
		return err
	}
	verdicts, evidence, err := w.verdicts(ctx)
	if err != nil {
		return err
	}
	w.say("%.0f s after the commit, %s; the threshold says %s", time.Since(began).Seconds(), evidence, verdicts["threshold"])
	if verdicts["threshold"] != "Running" {
		return fmt.Errorf("the threshold decided, too: %v", verdicts)
	}
	return nil
}

// rarely sends a request a second: three a minute reach a canary of 5 %.
func rarely(config *load.Config) { config.Rate = 1 }

// quiet releases an image that is as good as stable to hardly any traffic: nothing is decided, and a person is asked.
func quiet(ctx context.Context, w *world, before *rollout) error {
	if err := w.commit(ctx, before, 1); err != nil {
		return err
	}
	r, err := w.sees(ctx, "the pause", func(r *rollout) bool {
		return strings.Contains(r.Status.Message, "promote the step") || r.Status.Phase == "Degraded" || r.Status.Index > 1
	})
	if err != nil {
		return err
	}
	verdicts, evidence, err := w.verdicts(ctx)
	if err != nil {
		return err
	}
	w.say("%s", evidence)
	if r.Status.Phase != "Paused" || verdicts["compared"] != "Inconclusive" {
		return errors.New("it was decided: " + r.String())
	}
	return nil
}
