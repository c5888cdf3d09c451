package story

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"serin.dev/e2e/mesh/load"
)

const (
	webRule = "/apis/networking.istio.io/v1/namespaces/shop/destinationrules/web"
	// atOnce is the pause between two writes of a controller that waits for nothing: its next pass.
	atOnce      = 300 * time.Millisecond
	orderRuns   = 3
	orderMost   = 30 * time.Second
	settledFor  = 3 * time.Second
	webReplicas = 2
)

// order is something that a release does to a route and its pods, in two orders of writes.
type order struct {
	name string
	// from are the weights of a and b before.
	from [2]int
	// hasB says whether the rule has a subset for b before.
	hasB bool
	// told are the writes of both orders, in words.
	told [2]string
	// naive writes as soon as it can, safe when what it wrote before is in force.
	naive, safe func(context.Context, *world) error
}

// orders are what releases consist of.
var orders = []order{
	{
		name: "first requests to a new subset", from: [2]int{100, 0},
		told: [2]string{"route, then rule", "rule, its pods at every proxy, then route"},
		naive: func(ctx context.Context, w *world) error {
			return w.inTurn(ctx, weigh(50, 50), after(atOnce), subsets("a", "b"))
		},
		safe: func(ctx context.Context, w *world) error {
			return w.inTurn(ctx, subsets("a", "b"), behind("b", webReplicas), weigh(50, 50))
		},
	},
	{
		name: "abort at 50 %", from: [2]int{50, 50}, hasB: true,
		told: [2]string{"weight 0 and the canary's pods gone", "weight 0 at every proxy, then the canary's pods gone"},
		naive: func(ctx context.Context, w *world) error {
			return w.inTurn(ctx, weigh(100, 0), sized("b", 0))
		},
		safe: func(ctx context.Context, w *world) error {
			return w.inTurn(ctx, weigh(100, 0), inForce(100, 0), sized("b", 0))
		},
	},
	{
		name: "a newer revision at 50 %", from: [2]int{50, 50}, hasB: true,
		told: [2]string{
			"the canary's subset to the newer revision, whose pods are started",
			"weight 0 at every proxy, pods ready, the subset to them, those at every proxy, then weight",
		},
		naive: func(ctx context.Context, w *world) error {
			return w.inTurn(ctx, subsets("a", "c"), sized("c", webReplicas), filled("c", webReplicas))
		},
		safe: func(ctx context.Context, w *world) error {
			return w.inTurn(ctx, weigh(100, 0), inForce(100, 0), sized("c", webReplicas), filled("c", webReplicas),
				subsets("a", "c"), behind("b", webReplicas), weigh(50, 50))
		},
	},
	{
		name: "promotion at 100 %", from: [2]int{0, 100}, hasB: true,
		told: [2]string{
			"weight back to stable, the old pods gone, then stable's subset to the new revision",
			"stable's subset to the new revision, its pods at every proxy, weight back at every proxy, then the old pods gone",
		},
		naive: func(ctx context.Context, w *world) error {
			return w.inTurn(ctx, weigh(100, 0), sized("a", 0), after(atOnce), subsets("b", "b"))
		},
		safe: func(ctx context.Context, w *world) error {
			return w.inTurn(ctx, subsets("b", "b"), after(settledFor), weigh(100, 0), inForce(100, 0), sized("a", 0))
		},
	},
}

// act is one write, or one wait.
type act func(context.Context, *world) error

func (w *world) inTurn(ctx context.Context, acts ...act) error {
	for _, act := range acts {
		if err := act(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

func weigh(a, b int) act {
	return func(ctx context.Context, w *world) error { return w.setWeights(ctx, a, b) }
}

func inForce(a, b int) act {
	return func(ctx context.Context, w *world) error { return w.applied(ctx, a, b) }
}

func after(duration time.Duration) act {
	return func(ctx context.Context, _ *world) error { return pause(ctx, duration) }
}

// subsets writes the versions behind the subsets a and b; an empty one leaves the subset out.
func subsets(a, b string) act {
	return func(ctx context.Context, w *world) error {
		all := []any{object{"name": "a", "labels": object{"version": a}}}
		if b != "" {
			all = append(all, object{"name": "b", "labels": object{"version": b}})
		}
		return w.client.Patch(ctx, webRule, object{"spec": object{"subsets": all}})
	}
}

// sized gives a version so many pods.
func sized(version string, count int) act {
	return func(ctx context.Context, w *world) error {
		path := "/apis/apps/v1/namespaces/shop/deployments/web-" + version + "/scale"
		return w.client.Patch(ctx, path, object{"spec": object{"replicas": count}})
	}
}

// filled waits until so many pods of a version are ready, and no other is left of it.
func filled(version string, count int) act {
	return func(ctx context.Context, w *world) error {
		path := "/api/v1/namespaces/shop/pods?labelSelector=app%3Dweb%2Cversion%3D" + version
		return w.until(ctx, fmt.Sprintf("%d pods of %s", count, version), orderMost, func() (bool, string) {
			var list struct {
				Items []pod `json:"items"`
			}
			err := w.client.Get(ctx, path, &list)
			return err == nil && len(list.Items) == count && ready(list.Items) == count, fmt.Sprint(ready(list.Items), " are ready: ", err)
		})
	}
}

// behind waits until every proxy has so many healthy endpoints of a subset.
func behind(subset string, count int) act {
	return func(ctx context.Context, w *world) error {
		for _, proxy := range proxies {
			err := w.until(ctx, fmt.Sprintf("%d endpoints of %s in %s", count, subset, proxy.name), orderMost, func() (bool, string) {
				found, err := endpoints(ctx, proxy.admin, "outbound|80|"+subset+"|"+webHost)
				return err == nil && found == count, fmt.Sprint(found, err)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// endpoints counts the healthy endpoints that an Envoy has of a cluster.
func endpoints(ctx context.Context, admin, cluster string) (int, error) {
	answer, err := asked(ctx, admin, "/clusters")
	if err != nil {
		return 0, err
	}
	defer answer.Close()
	count := 0
	lines := bufio.NewScanner(answer)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, cluster+"::") && strings.HasSuffix(line, "::health_flags::healthy") {
			count++
		}
	}
	return count, lines.Err()
}

// before makes what an order begins from, with all of it in force.
func (w *world) before(ctx context.Context, o order) error {
	b := "b"
	if !o.hasB {
		b = ""
	}
	acts := []act{sized("a", webReplicas), sized("b", webReplicas), sized("c", 0), filled("a", webReplicas),
		filled("b", webReplicas), filled("c", 0), subsets("a", "b"), behind("a", webReplicas), behind("b", webReplicas),
		weigh(o.from[0], o.from[1]), inForce(o.from[0], o.from[1]), subsets("a", b)}
	if !o.hasB {
		acts = append(acts, behind("b", 0))
	}
	return w.inTurn(ctx, append(acts, after(time.Second))...)
}

// ordered carries one order out under load.
func (w *world) ordered(ctx context.Context, o order, do func(context.Context, *world) error) (load.Summary, error) {
	if err := w.before(ctx, o); err != nil {
		return load.Summary{}, err
	}
	report, ended := load.NewReport(), make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- load.Run(running, w.load(webHost, time.Minute), report.Add) }()
	err := w.inTurn(ctx, after(time.Second), do, after(settledFor))
	stop()
	if ended := <-ended; err == nil {
		err = ended
	}
	return report.Summary(), err
}

// inOrder measures what is lost by the order of writes alone: each order as soon as it can, and when it is safe.
func inOrder(ctx context.Context, w *world) error {
	table := "| what | order of writes | lost of sent |\n|---|---|---|\n"
	for _, o := range orders {
		for n, do := range []func(context.Context, *world) error{o.naive, o.safe} {
			var lost []string
			for range orderRuns {
				summary, err := w.ordered(ctx, o, do)
				if err != nil {
					return fmt.Errorf("%s: %w", o.name, err)
				}
				lost = append(lost, fmt.Sprintf("%d of %d", summary.Losses, summary.Sent))
			}
			w.say("%s: %s: %s", o.name, o.told[n], strings.Join(lost, ", "))
			table += fmt.Sprintf("| %s | %s | %s |\n", o.name, o.told[n], strings.Join(lost, ", "))
		}
	}
	return os.WriteFile(filepath.Join(w.out, "orders.md"), []byte(table), 0o644)
}
