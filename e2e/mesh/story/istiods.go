package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// istiods are both of --wide: their processes, and where they tell of their proxies.
var istiods = []struct{ process, debug string }{{"istiod", "127.0.0.1:15080"}, {"istiod1", "127.0.0.1:15081"}}

// slicePath is where Kubernetes tells that the second istiod serves.
const slicePath = "/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices/istiod-1"

// proxiesAt are the names of the proxies that are connected to an istiod.
func proxiesAt(ctx context.Context, debug string) ([]string, error) {
	answer, err := asked(ctx, debug, "/debug/syncz")
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	var all []struct{ Proxy string }
	if err := json.NewDecoder(answer).Decode(&all); err != nil {
		return nil, err
	}
	var names []string
	for _, one := range all {
		if !strings.HasPrefix(one.Proxy, "serin:") {
			names = append(names, one.Proxy)
		}
	}
	return names, nil
}

// spread makes sure that each istiod has proxies which are asked; one of the gateways is started again until it has.
func (w *world) spread(ctx context.Context) error {
	return w.until(ctx, "proxies at both istiods", time.Minute, func() (bool, string) {
		var seen []string
		for _, one := range istiods {
			names, err := proxiesAt(ctx, one.debug)
			if err != nil {
				return false, err.Error()
			}
			seen = append(seen, fmt.Sprint(names))
		}
		one, other := isAsked(seen[0]), isAsked(seen[1])
		if one && other {
			w.say("istiod has %s, istiod1 has %s", seen[0], seen[1])
			return true, ""
		}
		if one || other {
			if err := w.process("gw-2").Kill(); err != nil {
				return false, err.Error()
			}
		}
		return pause(ctx, time.Second) == nil && false, fmt.Sprint(seen)
	})
}

// isAsked says whether a proxy that the load asks is among these, in the modes without a waypoint.
func isAsked(names string) bool {
	return strings.Contains(names, "gw-") || strings.Contains(names, "client-")
}

// beginSpread makes a Rollout that serves its first revision, while both istiods have proxies.
func beginSpread(ctx context.Context, w *world) (*rollout, error) {
	if err := w.spread(ctx); err != nil {
		return nil, err
	}
	return w.setUp(ctx)
}

// takeOneDown kills one of two istiods, which is started again some time later. Its proxies go to the other one, and Kubernetes
// tells that it does not serve.
func takeOneDown(ctx context.Context, w *world) error {
	one := w.process(istiods[1].process)
	if err := one.Hold(); err != nil {
		return err
	}
	w.say("one of two istiods is killed, and stays away for %s", istiodAway)
	told := one.Kill()
	if told == nil {
		told = pause(ctx, time.Second)
	}
	told = errors.Join(told, w.tellsServing(ctx, false))
	if told == nil {
		told = pause(ctx, istiodAway)
	}
	w.say("it starts again")
	// However the story ends, it is back.
	told = errors.Join(told, one.Release())
	back := w.until(ctx, "the second istiod", time.Minute, func() (bool, string) {
		_, err := proxiesAt(ctx, istiods[1].debug)
		return err == nil, fmt.Sprint(err)
	})
	return errors.Join(told, back, w.tellsServing(ctx, true))
}

// tellsServing is what the kubelet and the controller of EndpointSlices tell.
func (w *world) tellsServing(ctx context.Context, is bool) error {
	return w.client.Patch(ctx, slicePath, object{"endpoints": []any{object{
		"addresses": []any{"10.244.255.2"}, "conditions": object{"ready": is, "serving": is},
	}}})
}

// oneStopped releases an image while one of two istiods is stopped from 50 percent on: its proxies stay connected to it and get
// nothing, while those of the other one get everything.
func oneStopped(ctx context.Context, w *world, before *rollout) error {
	one, err := w.process(istiods[1].process).PID()
	if err != nil {
		return err
	}
	if err := w.commit(ctx, before, 1); err != nil {
		return err
	}
	at, err := w.sees(ctx, "50% in force", func(r *rollout) bool { return r.Status.Canary.InForce >= 50 })
	if err != nil {
		return err
	}
	w.say("one of two istiods is stopped at %d%% in force", at.Status.Canary.InForce)
	if err := syscall.Kill(one, syscall.SIGSTOP); err != nil {
		return err
	}
	told := w.staysInForce(ctx, istiodAway)
	w.say("it goes on")
	if told = errors.Join(told, syscall.Kill(one, syscall.SIGCONT)); told != nil {
		return told
	}
	return w.promoted(ctx, before.Status.Stable.Hash)
}

// staysInForce fails where another weight is told to be in force while nobody can know it: what was in force when half a second
// is over stays that.
func (w *world) staysInForce(ctx context.Context, during time.Duration) error {
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	first, err := w.rollout(ctx)
	if err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < during; {
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
		now, err := w.rollout(ctx)
		if err != nil {
			return err
		}
		if now.Status.Canary.InForce != first.Status.Canary.InForce || now.Status.Stable.Hash != first.Status.Stable.Hash {
			return fmt.Errorf("%d%% was in force and %d%% is, though a proxy cannot have it: %s",
				first.Status.Canary.InForce, now.Status.Canary.InForce, now)
		}
	}
	last, err := w.rollout(ctx)
	w.say("in force stays %d%%, written is %d%%: %s", first.Status.Canary.InForce, last.Status.Canary.Observed, last)
	return err
}

// otherStopped releases an image while a proxy is stopped whose Sidecar does not import the host: nobody waits for it.
func otherStopped(ctx context.Context, w *world, before *rollout) error {
	other, err := w.process("other-1").PID()
	if err != nil {
		return err
	}
	if err := syscall.Kill(other, syscall.SIGSTOP); err != nil {
		return err
	}
	defer func() { _ = syscall.Kill(other, syscall.SIGCONT) }()
	var listed bool
	for _, one := range istiods {
		names, err := proxiesAt(ctx, one.debug)
		if err != nil {
			return err
		}
		listed = listed || strings.Contains(fmt.Sprint(names), "other-1")
	}
	if !listed {
		return errors.New("no istiod knows the proxy that is stopped")
	}
	began := w.elapsed()
	if err := canary(ctx, w, before); err != nil {
		return err
	}
	w.say("the proxy that has no use for the route was stopped for %.1f s", w.elapsed()-began)
	return nil
}
