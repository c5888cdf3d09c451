package story

import (
	"context"
	"errors"
	"syscall"

	"serin.dev/e2e/mesh/keep"
)

// process is a program that e2e/mesh/run keeps running.
func (w *world) process(name string) keep.Kept { return keep.Kept{Dir: w.dir, Name: name} }

// istiodStopped releases an image while istiod is stopped from 50 percent on, until the old pods are gone and a little longer.
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
	told := w.promoted(ctx, before.Status.Stable.Hash)
	if told == nil {
		told = pause(ctx, w.quiet)
	}
	w.say("istiod goes on")
	return errors.Join(told, syscall.Kill(istiod, syscall.SIGCONT))
}
