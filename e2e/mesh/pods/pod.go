package pods

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"serin.dev/e2e/mesh/echo"
)

// Annotations of a pod: how its echo process behaves.
const (
	annotationStart = "mesh.serin.dev/start" // time until it listens
	annotationDrain = "mesh.serin.dev/drain" // time that it accepts after SIGTERM; absent: it exits at once
	annotationDelay = "mesh.serin.dev/delay" // time that an answer takes
	annotationFail  = "mesh.serin.dev/fail"  // fraction of requests that are answered by 500
)

// revisionLabels are the labels that tell revisions apart: Serin's, one that a person gives, a ReplicaSet's.
var revisionLabels = []string{"serin.dev/revision-hash", "version", "pod-template-hash"}

// pod is what is read of a pod.
type pod struct {
	Metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		UID         string            `json:"uid"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		Deletion    *time.Time        `json:"deletionTimestamp"`
		Grace       int64             `json:"deletionGracePeriodSeconds"`
	} `json:"metadata"`
	Spec struct {
		Containers []struct {
			Ports []struct {
				Port int `json:"containerPort"`
			} `json:"ports"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Address string `json:"podIP"`
	} `json:"status"`
}

func (p *pod) path() string {
	return "/api/v1/namespaces/" + p.Metadata.Namespace + "/pods/" + p.Metadata.Name
}

// settings is the echo process of a pod; false while it has no address, and for a pod without a port. It speaks HTTP at the
// first port, and answers lines at the second.
func (p *pod) settings() (echo.Settings, bool, error) {
	var addresses []string
	for _, container := range p.Spec.Containers {
		for _, port := range container.Ports {
			addresses = append(addresses, net.JoinHostPort(p.Status.Address, strconv.Itoa(port.Port)))
		}
	}
	s := echo.Settings{Pod: p.Metadata.Name, Inherited: true}
	if len(addresses) > 0 {
		s.Address = addresses[0]
	}
	if len(addresses) > 1 {
		s.Lines = addresses[1]
	}
	for _, label := range revisionLabels {
		if s.Revision == "" {
			s.Revision = p.Metadata.Labels[label]
		}
	}
	for name, into := range map[string]*time.Duration{annotationStart: &s.Start, annotationDrain: &s.Drain, annotationDelay: &s.Delay} {
		if text, found := p.Metadata.Annotations[name]; found {
			parsed, err := time.ParseDuration(text)
			if err != nil {
				return s, false, fmt.Errorf("annotation %s: %w", name, err)
			}
			*into = parsed
		}
	}
	if text, found := p.Metadata.Annotations[annotationFail]; found {
		parsed, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return s, false, fmt.Errorf("annotation %s: %w", annotationFail, err)
		}
		s.Fail = parsed
	}
	return s, p.Status.Address != "" && s.Address != "", nil
}
