package story

import (
	"context"
	"sync"

	"serin.dev/e2e/mesh/load"
)

// telling is a story while it is told: what became of it.
type telling struct {
	report  *load.Report
	seconds float64
}

// begin makes what a story begins with.
func (w *world) begin(ctx context.Context, s story) (*rollout, error) {
	if err := w.reset(ctx); err != nil {
		return nil, err
	}
	err := w.enrol(ctx, w.setting.mode == waypoint)
	if err != nil {
		return nil, err
	}
	var before *rollout
	switch {
	case w.setting.mode == none:
		err = w.setUpDeployment(ctx)
	case s.begin != nil:
		before, err = s.begin(ctx, w)
	default:
		before, err = w.setUp(ctx)
	}
	if err != nil {
		return nil, err
	}
	return before, w.serves(ctx, appHost, inARow)
}

// tell tells a story under load, from a first revision that serves.
func (w *world) tell(ctx context.Context, s story) (telling, error) {
	before, err := w.begin(ctx, s)
	if err != nil {
		return telling{}, err
	}
	part := func(ctx context.Context) error { return s.tell(ctx, w, before) }
	if w.setting.mode == none {
		part = func(ctx context.Context) error { return s.baseline(ctx, w) }
	}
	return w.loaded(ctx, part)
}

// loaded tells a part of a story under load, with every change of the objects and the answers of each second.
func (w *world) loaded(ctx context.Context, part func(context.Context) error) (telling, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var following sync.WaitGroup
	for _, kind := range watched {
		following.Go(func() { kind.follow(running, w.client, func(line string) { w.say("%s", line) }) })
	}
	following.Go(func() { w.writeForeign(running) })
	var t telling
	ended := make(chan error, 1)
	go func() {
		var err error
		t.report, err = load.Watched(running, w.load(appHost, storyMost+w.quiet*2), func(line string) { w.say("answered: %s", line) })
		ended <- err
	}()
	told := pause(ctx, w.quiet)
	if told == nil {
		began := w.elapsed()
		told = part(ctx)
		t.seconds = w.elapsed() - began
	}
	if told == nil {
		told = pause(ctx, w.quiet)
	}
	stop()
	if err := <-ended; told == nil {
		told = err
	}
	following.Wait()
	return t, told
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
