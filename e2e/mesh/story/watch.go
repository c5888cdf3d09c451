package story

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"serin.dev/e2e/mesh/kube"
)

// kind is a kind of object whose changes a story shows.
type kind struct {
	path     string
	describe func(json.RawMessage) (name, line string)
}

// watched are the objects that Serin and the cluster write during a release.
var watched = []kind{
	{"/apis/networking.istio.io/v1/namespaces/shop/virtualservices", describeVirtualService},
	{"/apis/networking.istio.io/v1/namespaces/shop/destinationrules", describeDestinationRule},
	{"/api/v1/namespaces/shop/services", describeService},
	{"/apis/apps/v1/namespaces/shop/replicasets", describeReplicaSet},
	{"/apis/serin.dev/v1alpha1/namespaces/shop/rollouts", describeRollout},
}

// follow says a line whenever it differs from the last one of that object.
func (k kind) follow(ctx context.Context, client *kube.Client, say func(string)) {
	last := map[string]string{}
	client.Watch(ctx, k.path, func(event kube.Event) {
		if event.Type == kube.Synced {
			return
		}
		name, line := k.describe(event.Object)
		if event.Type == "DELETED" && line != "" {
			line = name + " is gone"
		}
		if line != "" && last[name] != line {
			last[name] = line
			say(line)
		}
	})
}

// meta is what is read of any object.
type meta struct {
	Metadata struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
}

func describeVirtualService(text json.RawMessage) (string, string) {
	var o struct {
		meta
		Spec struct {
			HTTP []route `json:"http"`
			TCP  []route `json:"tcp"`
		} `json:"spec"`
	}
	_ = json.Unmarshal(text, &o)
	var parts []string
	for _, route := range slices.Concat(o.Spec.HTTP, o.Spec.TCP) {
		parts = append(parts, route.String())
	}
	name := "VirtualService " + o.Metadata.Name
	if o.Metadata.Name == "web" {
		return name, "" // Foreign to what is released.
	}
	return name, name + ": " + strings.Join(parts, "; ")
}

// route is one of a VirtualService.
type route struct {
	Name     string `json:"name"`
	Delegate struct {
		Name string `json:"name"`
	} `json:"delegate"`
	Route []struct {
		Destination struct {
			Host   string `json:"host"`
			Subset string `json:"subset"`
		} `json:"destination"`
		Weight int `json:"weight"`
	} `json:"route"`
}

func (r route) String() string {
	if r.Delegate.Name != "" {
		return "delegates to " + r.Delegate.Name
	}
	var parts []string
	for _, one := range r.Route {
		parts = append(parts, fmt.Sprintf("%s %d", cmp.Or(one.Destination.Subset, one.Destination.Host), one.Weight))
	}
	return strings.TrimSpace(r.Name + " " + strings.Join(parts, ", "))
}

func describeService(text json.RawMessage) (string, string) {
	var o struct {
		meta
		Spec struct {
			Selector map[string]string `json:"selector"`
		} `json:"spec"`
	}
	_ = json.Unmarshal(text, &o)
	name := "Service " + o.Metadata.Name
	if hash := o.Spec.Selector["serin.dev/revision-hash"]; hash != "" {
		return name, name + " = " + hash
	}
	return name, ""
}

func describeDestinationRule(text json.RawMessage) (string, string) {
	var o struct {
		meta
		Spec struct {
			Subsets []struct {
				Name   string            `json:"name"`
				Labels map[string]string `json:"labels"`
			} `json:"subsets"`
		} `json:"spec"`
	}
	_ = json.Unmarshal(text, &o)
	var parts []string
	for _, subset := range o.Spec.Subsets {
		for _, value := range subset.Labels {
			parts = append(parts, subset.Name+" = "+value)
		}
	}
	name := "DestinationRule " + o.Metadata.Name
	return name, name + ": " + strings.Join(parts, ", ")
}

func describeReplicaSet(text json.RawMessage) (string, string) {
	var o struct {
		meta
		Spec struct {
			Replicas int `json:"replicas"`
		} `json:"spec"`
		Status struct {
			Ready int `json:"readyReplicas"`
		} `json:"status"`
	}
	_ = json.Unmarshal(text, &o)
	hash := cmp.Or(o.Metadata.Labels["serin.dev/revision-hash"], o.Metadata.Labels["pod-template-hash"])
	if o.Metadata.Labels["app"] != app {
		return o.Metadata.Name, "" // Foreign to what is released.
	}
	name := "ReplicaSet " + hash
	return name, fmt.Sprintf("%s: %d wanted, %d ready", name, o.Spec.Replicas, o.Status.Ready)
}

func describeRollout(text json.RawMessage) (string, string) {
	var r rollout
	_ = json.Unmarshal(text, &r)
	return "Rollout", "Rollout: " + r.String()
}
