package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

func setWeight(weight int) any { return object{"setWeight": weight} }

// untilPromoted is a step that waits for a person.
var untilPromoted any = object{"pause": object{}}

// weights are steps.
func weights(of ...int) []any {
	var steps []any
	for _, weight := range of {
		steps = append(steps, setWeight(weight))
	}
	return steps
}

// stopping are the steps of a story in which something happens at a weight.
func stopping(at int) []any {
	return []any{setWeight(20), setWeight(at), untilPromoted, setWeight(min(at+30, 95))}
}

// canary releases an image through all weights.
func canary(ctx context.Context, w *world, before *rollout) error {
	if err := w.commit(ctx, before, 1); err != nil {
		return err
	}
	return w.promoted(ctx, before.Status.Stable.Hash)
}

// paused commits an image that stops at a weight, and waits for that.
func (w *world) paused(ctx context.Context, before *rollout) (*rollout, error) {
	if err := w.commit(ctx, before, 1); err != nil {
		return nil, err
	}
	_, err := w.sees(ctx, "the pause", func(r *rollout) bool {
		return r.Status.Phase == "Paused" && r.Status.Canary.Observed > 20 && w.setting.hasShrunk(r)
	})
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, w.quiet); err != nil {
		return nil, err
	}
	return w.rollout(ctx)
}

// hasShrunk says whether stable has no more pods than its share needs, where it is to lose the others.
func (s setting) hasShrunk(r *rollout) bool {
	share := 100 - r.Status.Canary.Observed
	return s.canary["dynamicStableScale"] != true || r.Status.Stable.Replicas == (share*replicas+99)/100
}

// abort releases an image up to a weight, and aborts it there.
func abort(ctx context.Context, w *world, before *rollout) error {
	if _, err := w.paused(ctx, before); err != nil {
		return err
	}
	if err := w.act(ctx, "abort"); err != nil {
		return err
	}
	return w.aborted(ctx, before, "AbortedByAction")
}

// aborted waits until stable has its pods and all requests again, for that reason.
func (w *world) aborted(ctx context.Context, before *rollout, reason string) error {
	r, err := w.sees(ctx, "Degraded", func(r *rollout) bool { return r.Status.Phase == "Degraded" || r.Status.Phase == "Healthy" })
	if err != nil {
		return err
	}
	if r.Status.Phase != "Degraded" {
		return errors.New("not aborted: " + r.String())
	}
	if !strings.Contains(r.Status.Message, reason) {
		return fmt.Errorf("aborted for another reason than %s: %s", reason, r)
	}
	w.say("Degraded")
	if err := w.alone(ctx, before.Status.Stable.Hash); err != nil {
		return err
	}
	return w.recovers(ctx, before.Status.Stable.Hash, replicas)
}

// supersede releases an image up to a weight, and then the next one.
func supersede(ctx context.Context, w *world, before *rollout) error {
	at, err := w.paused(ctx, before)
	if err != nil {
		return err
	}
	if err := w.commit(ctx, at, 1, w.weights...); err != nil {
		return err
	}
	return w.promoted(ctx, before.Status.Stable.Hash, at.Status.Canary.Hash)
}

// revert releases an image up to a weight; then Git has the stable one again.
func revert(ctx context.Context, w *world, before *rollout) error {
	if _, err := w.paused(ctx, before); err != nil {
		return err
	}
	if err := w.commit(ctx, before, 0); err != nil {
		return err
	}
	_, err := w.sees(ctx, "Healthy", func(r *rollout) bool { return r.Status.Phase == "Healthy" })
	if err != nil {
		return err
	}
	w.say("Healthy")
	return w.alone(ctx, before.Status.Stable.Hash)
}
