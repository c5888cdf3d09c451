package story

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"serin.dev/e2e/mesh/load"
)

// story is one that is told of a release.
type story struct {
	name string
	// modes are those in which it makes sense; empty for all.
	modes []string
	// steps are those of the canary; through all weights where they are absent.
	steps []any
	// canary are fields of strategy.canary.
	canary object
	// load changes what is sent.
	load func(*load.Config)
	// lines releases a TCP route.
	lines bool
	// calls releases what answers gRPC calls.
	calls bool
	// wide needs what e2e/mesh/run --wide starts.
	wide bool
	// second gives the Services a second port.
	second bool
	// begin makes what serves before the load comes; a Rollout where it is absent.
	begin func(context.Context, *world) (*rollout, error)
	tell  func(context.Context, *world, *rollout) error
	// baseline is what happens to a Deployment's pods, or to istiod, in place of a rollout; absent where nothing corresponds.
	baseline func(context.Context, *world) error
}

// stories are all of them, in the order of the table.
var stories = []story{
	{name: "canary", tell: canary, baseline: update},
	{name: "abort", steps: stopping(50), tell: abort},
	{name: "supersede", steps: stopping(50), tell: supersede},
	{name: "revert", steps: stopping(50), tell: revert, baseline: updateAndBack},
	{name: "verdict-good", steps: judging, tell: canary},
	{name: "verdict-bad", steps: judging, tell: failing},
	{name: "compared-doubled", canary: comparing, steps: weighing("10m", "compared", "threshold"), begin: beginFailing, tell: doubled},
	{name: "compared-quiet", canary: comparing, steps: weighing("90s", "compared"), begin: beginFailing, load: rarely, tell: quiet},
	{name: "canary-deleted", steps: stopping(50), tell: disturbed(ofCanary, deleteAll), baseline: disturbing(deleteHalf)},
	{name: "canary-killed", steps: stopping(50), tell: disturbed(ofCanary, killAll), baseline: disturbing(killHalf)},
	{name: "stable-evicted", steps: stopping(50), tell: disturbed(ofStable, evictEach), baseline: disturbing(evictEach)},
	{name: "adoption", begin: beginDeployed, tell: adopt},
	{name: "dynamic-canary", canary: dynamic, tell: canary, baseline: shrinkAndGrow},
	{name: "dynamic-abort", canary: dynamic, steps: stopping(80), tell: abort},
	{name: "dynamic-supersede", canary: dynamic, steps: stopping(80), tell: supersede},
	{name: "pinned-canary", modes: ofIstio, canary: managed, steps: pinning(weights(20, 50, 80)), load: pinned, tell: canary},
	{name: "pinned-abort", modes: ofIstio, canary: managed, steps: pinning(stopping(50)), load: pinned, tell: abort},
	{name: "pinned-supersede", modes: ofIstio, canary: managed, steps: pinning(stopping(50)), load: pinned, tell: supersede},
	{name: "tcp-canary", modes: []string{inPlace, hosts}, lines: true, tell: canary, baseline: update},
	{name: "tcp-abort", modes: []string{inPlace, hosts}, lines: true, steps: stopping(50), tell: abort},
	{name: "grpc-canary", calls: true, tell: canary, baseline: update},
	{name: "grpc-abort", calls: true, steps: stopping(50), tell: abort},
	{name: "second-port", second: true, tell: canary},
	{name: "controller-killed", tell: killingController(canary)},
	{name: "controller-killed-abort", steps: stopping(50), tell: killingController(abort)},
	{name: "istiod-restarted", tell: duringCanary(restartIstiod), baseline: restartIstiod},
	{name: "istiod-down", tell: duringCanary(takeIstiodDown), baseline: takeIstiodDown},
	{name: "istiod-down-abort", steps: stopping(50), tell: abortWithoutIstiod},
	{name: "istiod-stopped", tell: istiodStopped},
	{name: "one-istiod-down", wide: true, begin: beginSpread, tell: duringCanary(takeOneDown)},
	{name: "one-istiod-stopped", wide: true, begin: beginSpread, tell: oneStopped},
	{name: "other-stopped", wide: true, tell: otherStopped},
}

// dynamic lets stable shrink as its share does.
var dynamic = object{"dynamicStableScale": true}

// find is the story of that name.
func find(name string) (story, error) {
	at := slices.IndexFunc(stories, func(s story) bool { return s.name == name })
	if at < 0 {
		return story{}, fmt.Errorf("%q is none of the stories %s", name, strings.Join(names(), ", "))
	}
	return stories[at], nil
}

func names() []string {
	var names []string
	for _, story := range stories {
		names = append(names, story.name)
	}
	return names
}

// isTold says whether a story makes sense in that mode.
func (s story) isTold(mode string) bool {
	if mode == none {
		return s.baseline != nil
	}
	return len(s.modes) == 0 || slices.Contains(s.modes, mode)
}

// offers says whether there is what a story needs in that mode.
func (w *world) offers(s story, mode string) bool {
	return w.wide || (!s.wide && mode != waypoint)
}
