package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// prometheus is where e2e/mesh/inside starts it.
const prometheus = "127.0.0.1:9090"

// unreached asks for the Services of objects/unreached.yaml, whose requests end at a proxy, and says which labels they have.
func unreached(ctx context.Context, w *world) error {
	var wrong []error
	for _, one := range []struct {
		service, flags, workload, revision string
		hasCluster                         bool
	}{
		// Of a host that was chosen everything is known, of one that was not the Service alone.
		{"refused", "UF", "web-a|web-b", "a|b", true},
		{"empty", "UH", "unknown", "latest", true},
		{"full", "UO", "unknown", "latest", true},
		{"gone", "NC", "unknown", "latest", false},
	} {
		query := fmt.Sprintf(
			`istio_requests_total{reporter="source",destination_service="%s.shop.svc.cluster.local",destination_workload=~%q,destination_canonical_revision=~%q,response_flags=~".*%s.*",response_code="503"}`,
			one.service, one.workload, one.revision, one.flags)
		ofCluster := fmt.Sprintf(`envoy_cluster_upstream_rq{cluster_name=~"outbound\\|80\\|.*\\|%s\\..+",response_code_class="5xx"}`, one.service)
		err := w.until(ctx, one.flags, time.Minute, func() (bool, string) {
			seen := w.burst(ctx, one.service+".shop.svc.cluster.local", "")
			found, err := series(ctx, query)
			if err != nil {
				return false, err.Error()
			}
			clusters, err := series(ctx, ofCluster)
			if err != nil {
				return false, err.Error()
			}
			for _, labels := range found {
				w.say("%-8s %s; clusters of it with 5xx: %d", one.service, labels, len(clusters))
			}
			return len(found) > 0 && (len(clusters) > 0) == one.hasCluster, fmt.Sprint(seen, clusters)
		})
		wrong = append(wrong, err)
	}
	// To a client of gRPC a proxy says UNAVAILABLE, with the status 200.
	ofGrpc := `istio_requests_total{destination_service="empty.shop.svc.cluster.local",response_code="200",grpc_response_status="14"}`
	err := w.until(ctx, "UNAVAILABLE", time.Minute, func() (bool, string) {
		seen := w.burst(ctx, "empty.shop.svc.cluster.local", "application/grpc")
		found, err := series(ctx, ofGrpc)
		if err != nil {
			return false, err.Error()
		}
		for _, labels := range found {
			w.say("%-8s %s; by gRPC, 200 with status 14", "empty", labels)
		}
		return len(found) > 0, seen
	})
	return errors.Join(append(wrong, err)...)
}

// burst sends ten requests of a content type at once, and says how they ended.
func (w *world) burst(ctx context.Context, host, kind string) string {
	client := http.Client{Timeout: 5 * time.Second}
	ends := make([]string, 10)
	var open sync.WaitGroup
	for n := range ends {
		open.Go(func() {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxies[0].address+"/", nil)
			if err != nil {
				ends[n] = err.Error()
				return
			}
			request.Host = host
			if kind != "" {
				request.Header.Set("Content-Type", kind)
			}
			answer, err := client.Do(request)
			if err != nil {
				ends[n] = err.Error()
				return
			}
			answer.Body.Close()
			ends[n] = answer.Status + " " + answer.Header.Get("X-Envoy-Flags")
		})
	}
	open.Wait()
	// One scrape later they are there.
	_ = pause(ctx, 2*time.Second)
	return strings.Join(ends, ", ")
}

// series are the labels of what a query answers.
func series(ctx context.Context, query string) ([]string, error) {
	answer, err := asked(ctx, prometheus, "/api/v1/query?query="+url.QueryEscape(query))
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	var read struct {
		Error string `json:"error"`
		Data  struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  []any             `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(answer).Decode(&read); err != nil {
		return nil, err
	}
	if read.Error != "" {
		return nil, errors.New(read.Error)
	}
	var found []string
	for _, one := range read.Data.Result {
		found = append(found, fmt.Sprintf("%s to workload %s, revision %s, of namespace %s: %v",
			one.Metric["response_flags"], one.Metric["destination_workload"], one.Metric["destination_canonical_revision"],
			one.Metric["destination_workload_namespace"], one.Value[1]))
	}
	return found, nil
}
