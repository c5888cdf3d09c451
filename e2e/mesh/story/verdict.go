package story

import (
	"context"

	"serin.dev/e2e/mesh/load"
)

// failShare is the share of requests that a bad image answers by 500.
const failShare = "0.3"

// judging are steps with an analysis at each weight.
var judging = []any{setWeight(20), analysis, setWeight(60), analysis}

var analysis any = object{"analysis": object{"templates": []any{object{"templateName": "errors"}}}}

// failing releases an image that answers by 500 now and then, which the proxies count.
func failing(ctx context.Context, w *world, before *rollout) error {
	w.setting.annotations["mesh.serin.dev/fail"] = failShare
	if err := w.commit(ctx, before, 1); err != nil {
		return err
	}
	return w.aborted(ctx, before, "AnalysisFailed")
}

const pinnedRoute = "pinned"

// managed lets the Rollout have a header route.
var managed = object{"trafficRouting": object{"managedRoutes": []any{object{"name": pinnedRoute}}}}

// pinning are steps behind one that leads those who ask for the canary there.
func pinning(steps []any) []any {
	match := object{"headerName": load.PinHeader, "headerValue": object{"exact": "true"}}
	return append([]any{object{"setHeaderRoute": object{"name": pinnedRoute, "match": []any{match}}}}, steps...)
}

// pinned lets a quarter of the requests ask for the canary, of every proxy.
func pinned(config *load.Config) { config.PinnedEvery = 4 }
