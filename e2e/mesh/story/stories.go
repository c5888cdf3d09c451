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
	// stops is the weight at which something happens; 0 where the canary goes through.
	stops int
	// canary are fields of strategy.canary.
	canary object
	// load changes what is sent.
	load func(*load.Config)
	// lines releases a TCP route.
	lines bool
	// begin makes what serves before the load comes; a Rollout where it is absent.
	begin func(context.Context, *world) (*rollout, error)
	tell  func(context.Context, *world, *rollout) error
	// baseline is what happens to a Deployment's pods, or to istiod, in place of a rollout; absent where nothing corresponds.
	baseline func(context.Context, *world) error
}

// stories are all of them, in the order of the table.
var stories = []story{
	{name: "canary", tell: canary, baseline: update},
	{name: "abort", stops: 50, tell: abort},
	{name: "supersede", stops: 50, tell: supersede},
	{name: "revert", stops: 50, tell: revert, baseline: updateAndBack},
	{name: "istiod-stopped", tell: istiodStopped},
}

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
