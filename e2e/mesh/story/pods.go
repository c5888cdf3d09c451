package story

import (
	"context"
	"fmt"
	"sort"
	"time"
)

// pod is what is read of a pod.
type pod struct {
	Metadata struct {
		Name     string            `json:"name"`
		Labels   map[string]string `json:"labels"`
		Deletion *time.Time        `json:"deletionTimestamp"`
	} `json:"metadata"`
	Status struct {
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

// hash is the revision of a pod: Serin's, or a Deployment's.
func (p pod) hash() string {
	if hash := p.Metadata.Labels["serin.dev/revision-hash"]; hash != "" {
		return hash
	}
	return p.Metadata.Labels["pod-template-hash"]
}

func (p pod) isReady() bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == "Ready" {
			return condition.Status == "True" && p.Metadata.Deletion == nil
		}
	}
	return false
}

// ready is how many pods are.
func ready(pods []pod) int {
	count := 0
	for _, pod := range pods {
		if pod.isReady() {
			count++
		}
	}
	return count
}

// byHash is how many pods each revision has.
func byHash(pods []pod) map[string]int {
	count := map[string]int{}
	for _, pod := range pods {
		count[pod.hash()]++
	}
	return count
}

// pods are those of all revisions, by name.
func (w *world) pods(ctx context.Context) ([]pod, error) {
	var list struct {
		Items []pod `json:"items"`
	}
	if err := w.client.Get(ctx, podsOfApp, &list); err != nil {
		return nil, err
	}
	sort.Slice(list.Items, func(i, j int) bool { return list.Items[i].Metadata.Name < list.Items[j].Metadata.Name })
	return list.Items, nil
}

// readyOf are the ready pods of one revision; of any, where it is empty.
func (w *world) readyOf(ctx context.Context, hash string) ([]pod, error) {
	all, err := w.pods(ctx)
	var found []pod
	for _, pod := range all {
		if pod.isReady() && (hash == "" || pod.hash() == hash) {
			found = append(found, pod)
		}
	}
	return found, err
}

// alone waits until no pod of another revision is left.
func (w *world) alone(ctx context.Context, hash string) error {
	return w.until(ctx, "the pods of "+hash+" alone", storyMost, func() (bool, string) {
		found, err := w.pods(ctx)
		if err != nil {
			return false, err.Error()
		}
		count := byHash(found)
		return len(count) == 1 && count[hash] > 0, fmt.Sprint(count)
	})
}

// recovers waits until a revision has so many ready pods, and none that goes; any revision, where it is empty.
func (w *world) recovers(ctx context.Context, hash string, count int) error {
	return w.until(ctx, fmt.Sprintf("%d ready pods", count), storyMost, func() (bool, string) {
		found, err := w.readyOf(ctx, hash)
		return err == nil && len(found) >= count, fmt.Sprint(len(found), " are ready: ", err)
	})
}
