package story

import (
	"context"
	"errors"
	"fmt"
)

// update is what a Deployment makes of a commit, without weights.
func update(ctx context.Context, w *world) error {
	old, err := w.replace(ctx, 2)
	if err != nil {
		return err
	}
	return w.replaced(ctx, old)
}

// updateAndBack is a commit and its revert half-way.
func updateAndBack(ctx context.Context, w *world) error {
	old, err := w.replace(ctx, 2)
	if err != nil {
		return err
	}
	err = w.until(ctx, "half of the pods", storyMost, func() (bool, string) {
		found, err := w.readyOf(ctx, "")
		if err != nil {
			return false, err.Error()
		}
		count := byHash(found)
		return len(found)-count[old] >= replicas/2, fmt.Sprint(count)
	})
	if err != nil {
		return err
	}
	if _, err := w.replace(ctx, 1); err != nil {
		return err
	}
	return w.alone(ctx, old)
}

// replace commits an image of the Deployment, and says which revision served before.
func (w *world) replace(ctx context.Context, image int) (string, error) {
	found, err := w.readyOf(ctx, "")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("no pod is ready")
	}
	w.say("commit: %s:%d", app, image)
	return found[0].hash(), w.apply(ctx, w.setting.deployment(image))
}

// replaced waits until no pod of a revision is left, and all others are ready.
func (w *world) replaced(ctx context.Context, old string) error {
	return w.until(ctx, "the new pods alone", storyMost, func() (bool, string) {
		found, err := w.pods(ctx)
		if err != nil {
			return false, err.Error()
		}
		count := byHash(found)
		return count[old] == 0 && len(found) == replicas && ready(found) == replicas, fmt.Sprint(count)
	})
}

// shrinkAndGrow takes away all pods but one, and brings them back.
func shrinkAndGrow(ctx context.Context, w *world) error {
	if err := w.scale(ctx, 1); err != nil {
		return err
	}
	if err := pause(ctx, w.quiet); err != nil {
		return err
	}
	return w.scale(ctx, replicas)
}
