package story

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// disturbance is something that happens to pods; ofRevision says whose.
type (
	disturbance func(context.Context, *world, []pod) error
	ofRevision  func(*rollout) string
)

func ofCanary(r *rollout) string { return r.Status.Canary.Hash }
func ofStable(r *rollout) string { return r.Status.Stable.Hash }

// disturbed is a canary whose pods, or those of stable, are disturbed while it stops at a weight; then it is promoted.
func disturbed(of ofRevision, disturb disturbance) func(context.Context, *world, *rollout) error {
	return func(ctx context.Context, w *world, before *rollout) error {
		at, err := w.paused(ctx, before)
		if err != nil {
			return err
		}
		if err := w.disturb(ctx, of(at), disturb); err != nil {
			return err
		}
		if err := w.act(ctx, "promote"); err != nil {
			return err
		}
		return w.promoted(ctx, before.Status.Stable.Hash)
	}
}

// disturbing does the same to the pods of a Deployment.
func disturbing(disturb disturbance) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error { return w.disturb(ctx, "", disturb) }
}

// disturb disturbs the ready pods of a revision, and waits until there are as many again.
func (w *world) disturb(ctx context.Context, hash string, disturb disturbance) error {
	pods, err := w.readyOf(ctx, hash)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return errors.New("no pod is ready")
	}
	if err := disturb(ctx, w, pods); err != nil {
		return err
	}
	if err := pause(ctx, w.quiet); err != nil {
		return err
	}
	return w.recovers(ctx, hash, len(pods))
}

// deleteAll deletes all pods at once.
func deleteAll(ctx context.Context, w *world, pods []pod) error {
	var failed error
	for _, pod := range pods {
		w.say("pod %s is deleted", pod.Metadata.Name)
		failed = errors.Join(failed, w.client.Delete(ctx, podsPath+"/"+pod.Metadata.Name))
	}
	return failed
}

func deleteHalf(ctx context.Context, w *world, pods []pod) error {
	return deleteAll(ctx, w, pods[:len(pods)/2])
}

// evictEach evicts one pod after the other, a second apart, as somebody does who empties nodes.
func evictEach(ctx context.Context, w *world, pods []pod) error {
	for _, pod := range pods {
		name := pod.Metadata.Name
		w.say("pod %s is evicted", name)
		err := w.client.Create(ctx, podsPath+"/"+name+"/eviction", object{
			"apiVersion": "policy/v1", "kind": "Eviction", "metadata": object{"name": name, "namespace": "shop"},
		})
		if err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// killAll kills the process of each pod; a second later each is started again, as a kubelet does.
func killAll(_ context.Context, w *world, pods []pod) error {
	for _, pod := range pods {
		pid, err := echoOf(pod.Metadata.Name)
		if err != nil {
			return err
		}
		w.say("pod %s: its process is killed", pod.Metadata.Name)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

func killHalf(ctx context.Context, w *world, pods []pod) error {
	return killAll(ctx, w, pods[:len(pods)/2])
}

// echoOf is the echo process of a pod: the one whose command line names it.
func echoOf(pod string) (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && isEchoOf(line, pod) {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, errors.New("no process runs in pod " + pod)
}

// isEchoOf reads a command line, whose words end by a zero.
func isEchoOf(line []byte, pod string) bool {
	words := bytes.Split(line, []byte{0})
	if len(words) < 2 || string(words[1]) != "echo" {
		return false
	}
	for i, word := range words[:len(words)-1] {
		if string(word) == "-pod" && string(words[i+1]) == pod {
			return true
		}
	}
	return false
}
