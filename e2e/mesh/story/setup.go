package story

import (
	"context"
	"errors"
	"fmt"
	"time"

	"serin.dev/e2e/mesh/kube"
)

const (
	podsPath    = "/api/v1/namespaces/shop/pods"
	podsOfApp   = podsPath + "?labelSelector=app%3D" + app
	rolloutPath = "/apis/serin.dev/v1alpha1/namespaces/shop/rollouts/" + app
	actionsPath = "/apis/serin.dev/v1alpha1/namespaces/shop/rolloutactions"

	deletionMost = 30 * time.Second
	// inARow is how many answers by 200 a proxy gives before a story begins.
	inARow = 10
)

// reset takes away what the story before left.
func (w *world) reset(ctx context.Context) error {
	if err := w.client.Delete(ctx, rolloutPath); err != nil {
		return err
	}
	freed := w.until(ctx, "the Rollout's deletion", deletionMost, w.isGone(ctx, rolloutPath))
	if freed != nil {
		w.say("the Rollout is freed by force: %v", freed)
		force := w.client.Patch(ctx, rolloutPath, object{"metadata": object{"finalizers": nil}})
		if force != nil && !kube.IsMissing(force) {
			return errors.Join(freed, force)
		}
	}
	for _, path := range append(stays(), actionsPath) {
		if err := w.client.Delete(ctx, path); err != nil {
			return err
		}
	}
	// Nobody waits for what these pods still do.
	if err := w.client.Delete(ctx, podsOfApp+"&gracePeriodSeconds=0"); err != nil {
		return err
	}
	for _, path := range append(stays(), place("VirtualService", app+"-serin"), place("DestinationRule", app+"-serin")) {
		if err := w.until(ctx, "a reset of "+path, deletionMost, w.isGone(ctx, path)); err != nil {
			return err
		}
	}
	return w.until(ctx, "a reset of the pods", deletionMost, func() (bool, string) {
		if err := w.client.Delete(ctx, podsOfApp+"&gracePeriodSeconds=0"); err != nil {
			return false, err.Error()
		}
		found, err := w.pods(ctx)
		return err == nil && len(found) == 0, fmt.Sprint(len(found), " pods are left: ", err)
	})
}

func (w *world) isGone(ctx context.Context, path string) func() (bool, string) {
	return func() (bool, string) {
		err := w.client.Get(ctx, path, nil)
		return kube.IsMissing(err), fmt.Sprintf("it is there: %v", err)
	}
}

// apply applies objects one after the other, as Git does.
func (w *world) apply(ctx context.Context, objects ...object) error {
	for _, o := range objects {
		if err := w.client.Apply(ctx, placed(o), o); err != nil {
			return fmt.Errorf("%s: %w", placed(o), err)
		}
	}
	return nil
}

// enrol leads what is sent to the Services of the namespace through its waypoint, or no longer.
func (w *world) enrol(ctx context.Context, is bool) error {
	var name any
	if is {
		name = "waypoint"
	}
	return w.client.Patch(ctx, "/api/v1/namespaces/shop", object{"metadata": object{"labels": object{"istio.io/use-waypoint": name}}})
}

// setUp makes a Rollout that serves its first revision.
func (w *world) setUp(ctx context.Context) (*rollout, error) {
	if err := w.apply(ctx, w.setting.route()...); err != nil {
		return nil, err
	}
	if err := w.apply(ctx, w.setting.analysis(), w.setting.rollout(1)); err != nil {
		return nil, err
	}
	return w.healthy(ctx)
}

// setUpDeployment makes a Deployment that serves behind the route.
func (w *world) setUpDeployment(ctx context.Context) error {
	if err := w.apply(ctx, w.setting.route()...); err != nil {
		return err
	}
	return w.deploy(ctx)
}

// deploy makes a Deployment with all its pods, whose number Git leaves out.
func (w *world) deploy(ctx context.Context) error {
	if err := w.apply(ctx, w.setting.deployment(1)); err != nil {
		return err
	}
	return w.scale(ctx, replicas)
}

// scale gives the Deployment so many pods, and waits for them.
func (w *world) scale(ctx context.Context, count int) error {
	if err := w.client.Patch(ctx, place("Deployment", app)+"/scale", object{"spec": object{"replicas": count}}); err != nil {
		return err
	}
	return w.until(ctx, fmt.Sprintf("a Deployment with %d pods", count), storyMost, func() (bool, string) {
		found, err := w.pods(ctx)
		return err == nil && len(found) == count && ready(found) == count, fmt.Sprint(ready(found), " pods are ready: ", err)
	})
}

// serves waits until every proxy that is asked answers by 200 for a host, so many times in a row.
func (w *world) serves(ctx context.Context, host string, times int) error {
	config := w.load(host, time.Minute)
	for _, target := range config.Targets {
		count := 0
		err := w.until(ctx, "the first 200 of "+target, time.Minute, func() (bool, string) {
			result := config.Ask(target)
			if result.IsLost() {
				count = 0
			} else {
				count++
			}
			return count >= times, fmt.Sprint(result.Status, " ", result.Error)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
