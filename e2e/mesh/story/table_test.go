package story

import (
	"strings"
	"testing"

	"serin.dev/e2e/mesh/load"
)

func TestCells(t *testing.T) {
	chosen := []story{{name: "a", baseline: update}, {name: "b", modes: []string{hosts}}, {name: "c", wide: true, modes: []string{owned}}}
	all := "a owned exit, a delegate exit, a in-place exit, a hosts exit, a http-route exit, "
	for want, w := range map[string]*world{
		all + "a none baseline, b hosts exit":                                {},
		all + "a waypoint exit, a none baseline, b hosts exit, c owned exit": {wide: true},
	} {
		var got []string
		for _, cell := range w.cells(chosen, modes, []string{exits, bare}) {
			got = append(got, cell.story.name+" "+cell.mode+" "+cell.pods)
		}
		if strings.Join(got, ", ") != want {
			t.Error(got)
		}
	}
}

func TestChoices(t *testing.T) {
	c := choice{known: []string{"a", "b"}}
	if err := c.Set("b,a"); err != nil || c.String() != "b,a" {
		t.Error(c, err)
	}
	if c.Set("a,x") == nil {
		t.Error("x is taken")
	}
}

func told(story, mode, pods string, sent, lost int, err string) account {
	a := account{Story: story, Mode: mode, Pods: pods, Seconds: 10, Error: err, Summary: load.Summary{Sent: sent, Losses: lost, Lost: map[string]int{}}}
	if lost > 0 {
		a.Lost["503 UF reset{a|b}"] = lost
	}
	return a
}

func TestMarkdown(t *testing.T) {
	accounts := []account{
		told("canary", owned, drains, 1000, 0, ""), told("canary", owned, exits, 1000, 2, ""), told("canary", hosts, exits, 1000, 0, "too late"),
		told("canary", none, bare, 500, 1, ""), told("canary", owned, exits, 3000, 1, ""),
	}
	got := markdown(accounts)
	for _, want := range []string{
		"| `canary` | owned | 0 of 1,000 | **3** of 4,000 (75) | **1** of 500 (200) | 10 |\n",
		"| `canary` | hosts |  | 0 of 1,000, 1 of 1 runs failed |  | 10 |\n",
		"| all | | 0 of 1,000 | **3** of 5,000 (60), 1 of 3 runs failed | **1** of 500 (200) | |\n",
		"| `canary` | owned | exit | 3 × 503 UF reset |\n",
		"| `canary` | none | baseline | 1 × 503 UF reset |\n",
		"Failed: `canary` hosts exit, run 0: too late\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	if err := failures(accounts); err == nil || failures(accounts[:2]) != nil {
		t.Error(err)
	}
}

func TestReasonsAndThousands(t *testing.T) {
	if got := strings.Join(reasons(map[string]int{"b": 1, "a": 1, "c": 20}), ", "); got != "20 × c, 1 × a, 1 × b" {
		t.Error(got)
	}
	for number, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(number); got != want {
			t.Error(got, want)
		}
	}
}
