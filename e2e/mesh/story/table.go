package story

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"serin.dev/e2e/mesh/kube"
)

// cell is one story that is told in one way.
type cell struct {
	story      story
	mode, pods string
}

// cells are all that make sense of what was chosen: a baseline has no mode of a Rollout, and comes once for a story.
func (w *world) cells(chosen []story, modes, pods []string) []cell {
	var cells []cell
	for _, s := range chosen {
		for _, mode := range modes {
			for _, kind := range pods {
				if kind != bare && s.isTold(mode) && w.offers(s, mode) {
					cells = append(cells, cell{s, mode, kind})
				}
			}
		}
		if s.isTold(none) && w.offers(s, none) && slices.Contains(pods, bare) {
			cells = append(cells, cell{s, none, bare})
		}
	}
	return cells
}

// choice is a flag of several words, each of which must be known.
type choice struct{ words, known []string }

func (c *choice) String() string { return strings.Join(c.words, ",") }

func (c *choice) Set(text string) error {
	c.words = strings.Split(text, ",")
	for _, word := range c.words {
		if !slices.Contains(c.known, word) {
			return fmt.Errorf("%q is none of %s", word, strings.Join(c.known, ", "))
		}
	}
	return nil
}

// table is what the command line says of all runs.
type table struct {
	runs                 int
	stories, modes, pods choice
}

// parse is the world of one run: each has its own.
func (t *table) parse(arguments []string) *world {
	w := newWorld()
	// What only costs time is shorter than where one story is told, and the steps are more.
	w.weights = weights(5, 20, 40, 60, 80)
	w.setting.canary = object{"scaleDownDelaySeconds": 5, "abortScaleDownDelaySeconds": 5}
	flags := flag.NewFlagSet("table", flag.ExitOnError)
	w.flags(flags)
	flags.Lookup("quiet").DefValue = "1.5s"
	w.quiet = 1500 * time.Millisecond
	flags.IntVar(&t.runs, "runs", 1, "how often each story is told")
	t.stories = choice{known: names(), words: names()}
	t.modes = choice{known: modes, words: modes}
	t.pods = choice{known: []string{drains, exits, bare}, words: []string{drains, exits, bare}}
	flags.Var(&t.stories, "stories", "which of "+t.stories.String())
	flags.Var(&t.modes, "modes", "which of "+t.modes.String())
	flags.Var(&t.pods, "pods", "which of "+t.pods.String())
	_ = flags.Parse(arguments)
	if w.out == "" {
		w.out = w.dir
	}
	return w
}

// Table tells many stories in many ways, and writes the table of what was lost.
func Table(ctx context.Context, arguments []string) error {
	var t table
	like := t.parse(arguments)
	out := like.out
	client, err := kube.FromEnvironment()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	lines, err := os.Create(filepath.Join(out, "accounts.jsonl"))
	if err != nil {
		return err
	}
	defer lines.Close()
	var chosen []story
	for _, name := range t.stories.words {
		s, err := find(name)
		if err != nil {
			return err
		}
		chosen = append(chosen, s)
	}
	all := like.cells(chosen, t.modes.words, t.pods.words)
	var accounts []account
	for run := range t.runs {
		for n, cell := range all {
			w := t.parse(arguments)
			w.client = client
			a := w.run(ctx, cell, run+1)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fmt.Printf("%4d of %d  %s\n", run*len(all)+n+1, t.runs*len(all), a.line())
			accounts = append(accounts, a)
			if err := json.NewEncoder(lines).Encode(a); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(out, "table.md"), []byte(markdown(accounts)), 0o644); err != nil {
				return err
			}
		}
	}
	fmt.Print("\n", markdown(accounts))
	return failures(accounts)
}

// run tells one story, and never fails: an error is a part of its account.
func (w *world) run(ctx context.Context, c cell, run int) account {
	a := account{Story: c.story.name, Mode: c.mode, Pods: c.pods, Run: run, Seed: w.seed + int64(run) - 1}
	w.seed = a.Seed
	w.name = fmt.Sprintf("%s-%s-%s-%d", a.Story, a.Mode, a.Pods, a.Run)
	log, err := os.Create(filepath.Join(w.out, w.name+".txt"))
	if err != nil {
		a.Error = err.Error()
		return a
	}
	defer log.Close()
	w.log = log
	t, err := w.of(c.story, c.mode, c.pods).tell(ctx, c.story)
	if t.report != nil {
		a.Summary, a.Seconds = t.report.Summary(), t.seconds
		a.Summary.Write(log)
		err = errors.Join(err, w.keepLost(t.report))
	}
	if err != nil {
		a.Error = err.Error()
		w.say("%s", a.Error)
	}
	return a
}

// line is an account for the terminal.
func (a account) line() string {
	line := fmt.Sprintf("%-20s %-8s %-8s run %d: %5.1f s, lost %d of %d", a.Story, a.Mode, a.Pods, a.Run, a.Seconds, a.Losses, a.Sent)
	for _, part := range reasons(a.Lost) {
		line += "; " + part
	}
	failed := 0
	for _, count := range a.Failed {
		failed += count
	}
	if failed > 0 {
		line += fmt.Sprintf("; answered by 500: %d", failed)
	}
	if a.Pinned != nil {
		line += fmt.Sprintf("; pinned: lost %d of %d", a.Pinned.Losses, a.Pinned.Sent)
	}
	if a.Error != "" {
		line += "; FAILED: " + a.Error
	}
	return line
}

// failures is an error where a story did not end as it should.
func failures(accounts []account) error {
	failed := 0
	for _, a := range accounts {
		if a.Error != "" {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d stories did not end as they should", failed, len(accounts))
	}
	return nil
}
