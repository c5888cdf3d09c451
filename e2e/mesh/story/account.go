package story

import (
	"maps"

	"serin.dev/e2e/mesh/load"
)

// Kinds of pods.
const (
	drains = "drain" // they accept for two more seconds after SIGTERM
	exits  = "exit"  // they exit at SIGTERM at once
	// bare is the baseline: pods that exit at once, of a Deployment without a Rollout.
	bare = "baseline"
)

// account is what is kept of one story that was told once.
type account struct {
	Story string `json:"story"`
	Mode  string `json:"mode,omitempty"`
	Pods  string `json:"pods,omitempty"`
	Run   int    `json:"run,omitempty"`
	Seed  int64  `json:"seed,omitempty"`
	load.Summary
	// Seconds is how long the story took, without the load before and after it.
	Seconds float64 `json:"seconds,omitempty"`
	// LastOld is, for each flip of weights, how long the old ones lived.
	LastOld []int64 `json:"lastOldAnswerMs,omitempty"`
	// Comparisons are what presets measured, beside what was counted.
	Comparisons []comparison `json:"comparisons,omitempty"`
	// Error is why the story did not end as it should.
	Error string `json:"error,omitempty"`
}

// of prepares this world for a story.
func (w *world) of(s story, mode, pods string) *world {
	w.story = s
	w.setting.mode, w.setting.lines, w.setting.calls, w.setting.second = mode, s.lines, s.calls, s.second
	w.setting.steps = w.weights
	if s.steps != nil {
		w.setting.steps = s.steps
	}
	w.setting.canary = merged(s.canary, w.setting.canary)
	if pods == drains {
		w.setting.annotations["mesh.serin.dev/drain"] = "2s"
	}
	return w
}

// merged has all of both, and of what both have the second.
func merged(a, b object) object {
	of := maps.Clone(a)
	if of == nil {
		of = object{}
	}
	maps.Copy(of, b)
	return of
}
