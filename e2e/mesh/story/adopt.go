package story

import (
	"context"
	"fmt"
)

// beginDeployed makes what serves before any Rollout: a Deployment behind what Git holds of the route already.
func beginDeployed(ctx context.Context, w *world) (*rollout, error) {
	route := w.setting.route()
	switch w.setting.mode {
	case owned:
		// No VirtualService may hold the host, and without one a gateway does not lead there.
		w.only = "client"
	case delegate:
		route[1] = root(object{"route": []any{w.setting.to(app, "", 100)}})
	}
	if err := w.apply(ctx, route...); err != nil {
		return nil, err
	}
	return nil, w.deploy(ctx)
}

// adopt lets a Rollout take a Deployment over. A root in Git delegates as soon as the delegate is there: while it leads to the
// Service, the Deployment's pods get requests, whatever the delegate says.
func adopt(ctx context.Context, w *world, _ *rollout) error {
	w.say("commit: a Rollout of the Deployment")
	if err := w.apply(ctx, w.setting.follower()); err != nil {
		return err
	}
	if w.setting.mode == delegate {
		if err := w.delegates(ctx); err != nil {
			return err
		}
	}
	_, err := w.healthy(ctx)
	return err
}

// delegates waits for the delegate, and commits the root that names it.
func (w *world) delegates(ctx context.Context) error {
	err := w.until(ctx, "the delegate", storyMost, func() (bool, string) {
		err := w.client.Get(ctx, place("VirtualService", app+"-serin"), nil)
		return err == nil, fmt.Sprint(err)
	})
	if err != nil {
		return err
	}
	w.say("commit: the root delegates")
	return w.apply(ctx, w.setting.route()...)
}
