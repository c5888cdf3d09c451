package story

import "context"

// beginDeployed makes what serves before any Rollout: a Deployment behind what Git holds of the route already.
func beginDeployed(ctx context.Context, w *world) (*rollout, error) {
	route := w.setting.route()
	switch w.setting.mode {
	case owned:
		// No VirtualService may hold the host, and without one a gateway does not lead there.
		w.only = "client"
	case delegate:
		route[1] = root(object{"route": []any{to(app, "", 100)}})
	}
	if err := w.apply(ctx, route...); err != nil {
		return nil, err
	}
	return nil, w.deploy(ctx)
}

// adopt lets a Rollout take a Deployment over. A root in Git delegates as soon as it may.
func adopt(ctx context.Context, w *world, _ *rollout) error {
	w.say("commit: a Rollout of the Deployment")
	if err := w.apply(ctx, w.setting.follower()); err != nil {
		return err
	}
	if _, err := w.healthy(ctx); err != nil {
		return err
	}
	if w.setting.mode != delegate {
		return nil
	}
	w.say("commit: the root delegates")
	if err := w.apply(ctx, w.setting.route()...); err != nil {
		return err
	}
	return pause(ctx, w.quiet)
}
