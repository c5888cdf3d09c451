package story

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"serin.dev/e2e/mesh/kube"
)

// flags registers what stories have in common.
func (w *world) flags(flags *flag.FlagSet) {
	flags.StringVar(&w.dir, "dir", ".", "folder with the process ids of e2e/mesh/run")
	flags.StringVar(&w.out, "out", "", "folder for accounts and lost requests; that of the process ids by default")
	flags.IntVar(&w.rate, "rate", 300, "requests a second, over all proxies")
	flags.DurationVar(&w.churn, "churn", 0, "time between two writes of a foreign route, which delay istiod's pushes; 0 for none")
	flags.DurationVar(&w.quiet, "quiet", 3*time.Second, "time that the load runs before and after a story")
	flags.BoolVar(&w.wide, "wide", false, "there is what e2e/mesh/run --wide starts")
	flags.Int64Var(&w.seed, "seed", 1, "seed of what happens at random")
	flags.Func("weights", "steps of a canary that goes through, 20,50,80 by default", func(text string) error {
		w.weights = nil
		for _, word := range strings.Split(text, ",") {
			weight, err := strconv.Atoi(word)
			if err != nil {
				return err
			}
			w.weights = append(w.weights, setWeight(weight))
		}
		return nil
	})
	flags.Func("canary", "fields of strategy.canary, as JSON", func(text string) error {
		return json.Unmarshal([]byte(text), &w.setting.canary)
	})
	flags.Func("annotate", "NAME=VALUE, an annotation of the pods; repeatable", func(text string) error {
		name, value, found := strings.Cut(text, "=")
		if !found {
			return errors.New("NAME=VALUE is expected")
		}
		w.setting.annotations[name] = value
		return nil
	})
}

// newWorld is one whose stories are told to standard output.
func newWorld() *world {
	return &world{
		weights: weights(20, 50, 80), setting: setting{canary: object{}, annotations: object{}}, log: os.Stdout, started: time.Now(),
	}
}

// Command tells one story, or measures web.
func Command(ctx context.Context, arguments []string) error {
	measures := map[string]func(context.Context, *world) error{
		"first": first, "ready": isReady, "split": split, "flips": flips,
		"presets": presets, "unreached": unreached, "orders": inOrder,
	}
	if len(arguments) == 0 {
		return fmt.Errorf("usage: mesh story first|ready|split|flips|presets|unreached|orders|%s [FLAGS]", strings.Join(names(), "|"))
	}
	w := newWorld()
	w.name = arguments[0]
	flags := flag.NewFlagSet("story", flag.ExitOnError)
	w.flags(flags)
	flags.StringVar(&w.name, "name", w.name, "name of the files")
	mode := flags.String("mode", owned, "how the Rollout leads requests: "+strings.Join(modes, ", ")+", or "+none+" for a Deployment")
	pods := flags.String("pods", exits, "kind of pods: "+exits+" or "+drains)
	_ = flags.Parse(arguments[1:])
	if w.out == "" {
		w.out = w.dir
	}
	var err error
	if w.client, err = kube.FromEnvironment(); err != nil {
		return err
	}
	if measure := measures[arguments[0]]; measure != nil {
		w.setting.mode, w.setting.steps = *mode, w.weights
		return measure(ctx, w)
	}
	s, err := find(arguments[0])
	if err != nil {
		return err
	}
	if !w.offers(s, *mode) {
		return fmt.Errorf("%s in mode %s needs e2e/mesh/run --wide", s.name, *mode)
	}
	t, err := w.of(s, *mode, *pods).tell(ctx, s)
	if t.report != nil {
		err = errors.Join(err, w.keep(t.report, account{Story: s.name, Mode: *mode, Pods: *pods, Seed: w.seed, Seconds: t.seconds}))
	}
	return err
}

// first waits for the first 200 of every proxy.
func first(ctx context.Context, w *world) error { return w.serves(ctx, webHost, 1) }

// isReady makes what Serin releases, and waits for the same of it.
func isReady(ctx context.Context, w *world) error {
	if _, err := w.setUp(ctx); err != nil {
		return err
	}
	return w.serves(ctx, appHost, inARow)
}
