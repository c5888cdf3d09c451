package story

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"serin.dev/e2e/mesh/keep"
)

const (
	// The controller lives this long at least, and at most, before it is killed again.
	livesLeast, livesMost = 200 * time.Millisecond, time.Second
	// istiodAway is how long istiod is down, and happensAt the weight at which it goes down.
	istiodAway = 20 * time.Second
	happensAt  = 40
)

// process is a program that e2e/mesh/run keeps running.
func (w *world) process(name string) keep.Kept { return keep.Kept{Dir: w.dir, Name: name} }

// killingController tells a story while the controller is killed again and again, at moments that the seed gives.
func killingController(tell func(context.Context, *world, *rollout) error) func(context.Context, *world, *rollout) error {
	return func(ctx context.Context, w *world, before *rollout) error {
		killing, stop := context.WithCancel(ctx)
		var killer sync.WaitGroup
		kills, random := 0, rand.New(rand.NewPCG(uint64(w.seed), 0))
		var failed error
		killer.Go(func() {
			for failed == nil && pause(killing, livesLeast+time.Duration(random.Int64N(int64(livesMost-livesLeast)))) == nil {
				kills++
				failed = w.process("serin").Kill()
			}
		})
		told := tell(ctx, w, before)
		stop()
		killer.Wait()
		w.say("the controller was killed %d times", kills)
		return errors.Join(told, failed)
	}
}

// duringCanary lets something happen to istiod in the middle of a canary.
func duringCanary(happen func(context.Context, *world) error) func(context.Context, *world, *rollout) error {
	return func(ctx context.Context, w *world, before *rollout) error {
		if err := w.commit(ctx, before, 1); err != nil {
			return err
		}
		if _, err := w.reaches(ctx, happensAt); err != nil {
			return err
		}
		away := make(chan error, 1)
		go func() { away <- happen(ctx, w) }()
		return errors.Join(w.promoted(ctx, before.Status.Stable.Hash), <-away)
	}
}

// abortWithoutIstiod aborts a canary while istiod is down.
func abortWithoutIstiod(ctx context.Context, w *world, before *rollout) error {
	if _, err := w.paused(ctx, before); err != nil {
		return err
	}
	away := make(chan error, 1)
	go func() { away <- takeIstiodDown(ctx, w) }()
	if err := errors.Join(pause(ctx, w.quiet), w.act(ctx, "abort")); err != nil {
		return errors.Join(err, <-away)
	}
	return errors.Join(w.aborted(ctx, before, "AbortedByAction"), <-away)
}

// restartIstiod kills istiod, which is started again at once.
func restartIstiod(ctx context.Context, w *world) error {
	w.say("istiod is killed, and starts again")
	if err := w.process("istiod").Kill(); err != nil {
		return err
	}
	return pause(ctx, 2*w.quiet)
}

// takeIstiodDown kills istiod, which is started again some time later, however the story ends.
func takeIstiodDown(ctx context.Context, w *world) error {
	istiod := w.process("istiod")
	if err := istiod.Hold(); err != nil {
		return err
	}
	w.say("istiod is killed, and stays away for %s", istiodAway)
	told := istiod.Kill()
	if told == nil {
		told = pause(ctx, istiodAway)
	}
	w.say("istiod starts again")
	return errors.Join(told, istiod.Release(), pause(ctx, w.quiet))
}

// istiodStopped releases an image while istiod is stopped from 50 percent on, for as long as it is away in other stories: proxies
// stay connected to it, and get nothing.
func istiodStopped(ctx context.Context, w *world, before *rollout) error {
	istiod, err := w.process("istiod").PID()
	if err != nil {
		return err
	}
	if err := w.commit(ctx, before, 1); err != nil {
		return err
	}
	if _, err := w.reaches(ctx, 50); err != nil {
		return err
	}
	if err := pause(ctx, w.quiet/3); err != nil {
		return err
	}
	w.say("istiod is stopped")
	if err := syscall.Kill(istiod, syscall.SIGSTOP); err != nil {
		return err
	}
	told := pause(ctx, istiodAway)
	w.say("istiod goes on")
	if told = errors.Join(told, syscall.Kill(istiod, syscall.SIGCONT)); told != nil {
		return told
	}
	return w.promoted(ctx, before.Status.Stable.Hash)
}
