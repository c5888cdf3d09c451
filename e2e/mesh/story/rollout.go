package story

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"serin.dev/e2e/mesh/load"
)

const (
	storyMost = 3 * time.Minute
	// quiet is how long the load runs before a story begins and after it ends.
	quiet = 3 * time.Second
)

// rollout is what is read of a Rollout.
type rollout struct {
	Metadata struct {
		Generation int64 `json:"generation"`
	} `json:"metadata"`
	Spec struct {
		Template struct {
			Metadata struct {
				Annotations map[string]any `json:"annotations"`
			} `json:"metadata"`
			Spec struct {
				Containers []map[string]any `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
		Strategy struct {
			Canary map[string]any `json:"canary"`
		} `json:"strategy"`
	} `json:"spec"`
	Status struct {
		Observed int64    `json:"observedGeneration"`
		Phase    string   `json:"phase"`
		Step     string   `json:"step"`
		Message  string   `json:"message"`
		Stable   revision `json:"stable"`
		Canary   revision `json:"canary"`
	} `json:"status"`
}

type revision struct {
	Hash     string `json:"hash"`
	Weight   int    `json:"weight"`
	Observed int    `json:"observedWeight"`
}

func (w *world) rollout(ctx context.Context) (*rollout, error) {
	var r rollout
	err := w.client.Get(ctx, rolloutPath, &r)
	return &r, err
}

// sees waits until the Rollout is as wanted, by a status of its present generation.
func (w *world) sees(ctx context.Context, what string, is func(*rollout) bool) error {
	return w.until(ctx, what, storyMost, func() (bool, string) {
		r, err := w.rollout(ctx)
		if err != nil {
			return false, err.Error()
		}
		return r.Status.Observed == r.Metadata.Generation && is(r), fmt.Sprintf("%s %s %s", r.Status.Phase, r.Status.Step, r.Status.Message)
	})
}

// podsOf are the revisions that the pods of checkout have, with how many.
func (w *world) podsOf(ctx context.Context) (map[string]int, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
		} `json:"items"`
	}
	if err := w.client.Get(ctx, "/api/v1/namespaces/shop/pods?labelSelector=app%3Dcheckout", &list); err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, item := range list.Items {
		found[item.Metadata.Labels["serin.dev/revision-hash"]]++
	}
	return found, nil
}

// alone waits until no pod of another revision is left.
func (w *world) alone(ctx context.Context, hash string) error {
	return w.until(ctx, "the pods of "+hash+" alone", storyMost, func() (bool, string) {
		found, err := w.podsOf(ctx)
		if err != nil {
			return false, err.Error()
		}
		return len(found) == 1 && found[hash] > 0, fmt.Sprint(found)
	})
}

// healthy waits until the Rollout serves one revision, its pods alone, at every proxy.
func (w *world) healthy(ctx context.Context) (*rollout, error) {
	if err := w.sees(ctx, "Healthy", func(r *rollout) bool { return r.Status.Phase == "Healthy" }); err != nil {
		return nil, err
	}
	r, err := w.rollout(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.alone(ctx, r.Status.Stable.Hash); err != nil {
		return nil, err
	}
	return r, w.answered(ctx, checkoutHost)
}

// commit changes the steps of the Rollout, and its image to the one that so many commits later has, as Git does.
func (w *world) commit(ctx context.Context, r *rollout, later int, steps ...any) error {
	container := maps.Clone(r.Spec.Template.Spec.Containers[0])
	image := fmt.Sprint(container["image"])
	number, err := strconv.Atoi(image[strings.LastIndex(image, ":")+1:])
	if err != nil {
		return err
	}
	container["image"] = fmt.Sprintf("checkout:%d", number+later)
	w.say("commit: %s", container["image"])
	canary := replacing(r.Spec.Strategy.Canary, w.canary)
	delete(canary, "trafficRouting")
	canary["steps"] = steps
	return w.client.Patch(ctx, rolloutPath, map[string]any{"spec": map[string]any{
		"template": map[string]any{
			"metadata": map[string]any{"annotations": replacing(r.Spec.Template.Metadata.Annotations, w.annotations)},
			"spec":     map[string]any{"containers": []any{container}},
		},
		"strategy": map[string]any{"canary": canary},
	}})
}

// replacing is the merge patch that makes one map of another: what an earlier story left goes.
func replacing(before, after map[string]any) map[string]any {
	patch := map[string]any{}
	for name := range before {
		patch[name] = nil
	}
	maps.Copy(patch, after)
	return patch
}

// loaded tells a part of a story under load, with every change of the objects and the answers of each second.
func (w *world) loaded(ctx context.Context, tell func(context.Context) error) (*load.Report, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var said sync.Mutex
	say := func(line string) {
		said.Lock()
		defer said.Unlock()
		w.say("%s", line)
	}
	for _, kind := range watched {
		go kind.follow(running, w.client, say)
	}
	go w.writeForeign(running)
	var report *load.Report
	ended := make(chan error, 1)
	go func() {
		var err error
		report, err = load.Watched(running, w.load(checkoutHost, storyMost), func(line string) { say("answered: " + line) })
		ended <- err
	}()
	told := pause(ctx, quiet)
	if told == nil {
		told = tell(ctx)
	}
	if told == nil {
		told = pause(ctx, quiet)
	}
	stop()
	if err := <-ended; told == nil {
		told = err
	}
	return report, told
}

// writeForeign writes the route of web again and again, as a busy cluster does: istiod waits for a pause between writes.
func (w *world) writeForeign(ctx context.Context) {
	for n := 0; w.churn > 0; n++ {
		if pause(ctx, w.churn) != nil {
			return
		}
		if err := w.setWeights(ctx, 99+n%2, 1-n%2); err != nil && ctx.Err() == nil {
			w.say("the foreign route is not written: %v", err)
		}
	}
}
