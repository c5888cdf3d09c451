package story

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// storyMost is how long anything in a story may take.
const storyMost = 4 * time.Minute

// rollout is what is read of a Rollout.
type rollout struct {
	Metadata struct {
		Generation int64 `json:"generation"`
	} `json:"metadata"`
	Spec struct {
		Template struct {
			Spec struct {
				Containers []object `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
	Status struct {
		Observed int64    `json:"observedGeneration"`
		Phase    string   `json:"phase"`
		Step     string   `json:"step"`
		Index    int      `json:"currentStepIndex"`
		Message  string   `json:"message"`
		Stable   revision `json:"stable"`
		Canary   revision `json:"canary"`
	} `json:"status"`
}

type revision struct {
	Hash     string `json:"hash"`
	Replicas int    `json:"replicas"`
	Weight   int    `json:"weight"`
	Observed int    `json:"observedWeight"`
	InForce  int    `json:"weightInForce"`
}

func (r *rollout) String() string {
	return fmt.Sprintf("%s %s %s", r.Status.Phase, r.Status.Step, r.Status.Message)
}

func (w *world) rollout(ctx context.Context) (*rollout, error) {
	var r rollout
	err := w.client.Get(ctx, rolloutPath, &r)
	return &r, err
}

// sees waits until the Rollout is as wanted, by a status of its present generation.
func (w *world) sees(ctx context.Context, what string, is func(*rollout) bool) (*rollout, error) {
	var seen *rollout
	err := w.until(ctx, what, storyMost, func() (bool, string) {
		r, err := w.rollout(ctx)
		if err != nil {
			return false, err.Error()
		}
		seen = r
		return r.Status.Observed == r.Metadata.Generation && is(r), r.String()
	})
	return seen, err
}

// healthy waits until the Rollout serves one revision, its pods alone.
func (w *world) healthy(ctx context.Context) (*rollout, error) {
	r, err := w.sees(ctx, "Healthy", func(r *rollout) bool { return r.Status.Phase == "Healthy" })
	if err != nil {
		return nil, err
	}
	return r, w.alone(ctx, r.Status.Stable.Hash)
}

// promoted waits until a revision other than these is stable, and its pods are alone.
func (w *world) promoted(ctx context.Context, others ...string) error {
	r, err := w.sees(ctx, "Healthy", func(r *rollout) bool {
		for _, other := range others {
			if r.Status.Stable.Hash == other {
				return r.Status.Phase == "Degraded" // Nothing more will come.
			}
		}
		return r.Status.Phase == "Healthy"
	})
	if err != nil {
		return err
	}
	if r.Status.Phase != "Healthy" {
		return errors.New("not promoted: " + r.String())
	}
	w.say("Healthy")
	return w.alone(ctx, r.Status.Stable.Hash)
}

// reaches waits until the canary has a weight, at the least.
func (w *world) reaches(ctx context.Context, weight int) (*rollout, error) {
	return w.sees(ctx, fmt.Sprintf("%d%%", weight), func(r *rollout) bool { return r.Status.Canary.Observed >= weight })
}

// commit changes the image to the one that so many commits later has, as Git does; and the steps, where some are given.
func (w *world) commit(ctx context.Context, r *rollout, later int, steps ...any) error {
	image := fmt.Sprint(r.Spec.Template.Spec.Containers[0]["image"])
	number, err := strconv.Atoi(image[strings.LastIndex(image, ":")+1:])
	if err != nil {
		return err
	}
	next := w.setting
	if len(steps) > 0 {
		next.steps = steps
	}
	w.say("commit: %s:%d", app, number+later)
	return w.apply(ctx, next.rollout(number+later))
}

// act asks for something that a person may decide, and is about the canary as it is now.
func (w *world) act(ctx context.Context, action string) error {
	r, err := w.rollout(ctx)
	if err != nil {
		return err
	}
	spec := object{"rollout": app, "action": action, "revision": r.Status.Canary.Hash, "by": "mesh", "reason": "a story"}
	if action == "promote" {
		spec["step"] = r.Status.Index
	}
	w.say("%s", action)
	return w.client.Create(ctx, actionsPath, object{
		"apiVersion": "serin.dev/v1alpha1", "kind": "RolloutAction", "metadata": object{"generateName": action + "-"}, "spec": spec,
	})
}
