package story

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// steps are those of every story's commit; a story that stops at 50 has a pause there.
var steps, stepsToHalf = []any{setWeight(20), setWeight(50), setWeight(80)},
	[]any{setWeight(20), setWeight(50), map[string]any{"pause": map[string]any{}}}

func setWeight(weight int) any { return map[string]any{"setWeight": weight} }

// release begins with a revision that is Healthy, tells a story under load, and keeps its account.
func (w *world) release(ctx context.Context, tell func(context.Context, *rollout) error) error {
	before, err := w.healthy(ctx)
	if err != nil {
		return err
	}
	report, err := w.loaded(ctx, func(ctx context.Context) error { return tell(ctx, before) })
	if report != nil {
		err = errors.Join(err, w.keep(report, nil))
	}
	return err
}

// promoted waits until a revision other than these is stable, and its pods are alone.
func (w *world) promoted(ctx context.Context, others ...string) error {
	var stable string
	err := w.sees(ctx, "Healthy", func(r *rollout) bool {
		stable = r.Status.Stable.Hash
		for _, other := range others {
			if stable == other {
				return false
			}
		}
		return r.Status.Phase == "Healthy"
	})
	if err != nil {
		return err
	}
	w.say("Healthy")
	return w.alone(ctx, stable)
}

// paused commits an image that stays at 50, and waits for that.
func (w *world) paused(ctx context.Context, before *rollout) (*rollout, error) {
	if err := w.commit(ctx, before, 1, stepsToHalf...); err != nil {
		return nil, err
	}
	isAtHalf := func(r *rollout) bool { return r.Status.Phase == "Paused" && r.Status.Canary.Observed == 50 }
	if err := w.sees(ctx, "the pause at 50", isAtHalf); err != nil {
		return nil, err
	}
	if err := pause(ctx, quiet); err != nil {
		return nil, err
	}
	return w.rollout(ctx)
}

// canary releases an image through 20, 50 and 80 percent.
func canary(ctx context.Context, w *world) error {
	return w.release(ctx, func(ctx context.Context, before *rollout) error {
		if err := w.commit(ctx, before, 1, steps...); err != nil {
			return err
		}
		return w.promoted(ctx, before.Status.Stable.Hash)
	})
}

// abort releases an image up to 50 percent, and aborts it there.
func abort(ctx context.Context, w *world) error {
	var before *rollout
	err := w.release(ctx, func(ctx context.Context, first *rollout) error {
		before = first
		at, err := w.paused(ctx, before)
		if err != nil {
			return err
		}
		w.say("abort")
		err = w.client.Create(ctx, actionsPath, map[string]any{
			"apiVersion": "serin.dev/v1alpha1", "kind": "RolloutAction",
			"metadata": map[string]any{"generateName": "abort-"},
			"spec":     map[string]any{"rollout": "checkout", "action": "abort", "revision": at.Status.Canary.Hash, "by": "mesh", "reason": "a story"},
		})
		if err != nil {
			return err
		}
		return w.alone(ctx, before.Status.Stable.Hash)
	})
	if err != nil {
		return err
	}
	// The next story begins from a revision that is Healthy.
	return w.commit(ctx, before, 0, steps...)
}

// supersede releases an image up to 50 percent, and then the next one.
func supersede(ctx context.Context, w *world) error {
	return w.release(ctx, func(ctx context.Context, before *rollout) error {
		at, err := w.paused(ctx, before)
		if err != nil {
			return err
		}
		if err := w.commit(ctx, before, 2, steps...); err != nil {
			return err
		}
		return w.promoted(ctx, before.Status.Stable.Hash, at.Status.Canary.Hash)
	})
}

// istiodStopped releases an image while istiod is stopped from 50 percent on, until the old pods are gone and a little longer.
func istiodStopped(ctx context.Context, w *world) error {
	text, err := os.ReadFile(filepath.Join(w.dir, "istiod.pid"))
	if err != nil {
		return err
	}
	istiod, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("istiod.pid: %w", err)
	}
	return w.release(ctx, func(ctx context.Context, before *rollout) error {
		if err := w.commit(ctx, before, 1, steps...); err != nil {
			return err
		}
		isAtHalf := func(r *rollout) bool { return r.Status.Canary.Observed == 50 }
		if err := w.sees(ctx, "50", isAtHalf); err != nil {
			return err
		}
		if err := pause(ctx, quiet/3); err != nil {
			return err
		}
		w.say("istiod is stopped")
		if err := syscall.Kill(istiod, syscall.SIGSTOP); err != nil {
			return err
		}
		told := w.promoted(ctx, before.Status.Stable.Hash)
		if told == nil {
			told = pause(ctx, quiet)
		}
		w.say("istiod goes on")
		return errors.Join(told, syscall.Kill(istiod, syscall.SIGCONT))
	})
}
