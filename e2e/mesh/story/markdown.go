package story

import (
	"fmt"
	"sort"
	"strings"
)

// sum is what several runs of one cell came to.
type sum struct {
	sent, lost, runs, failed int
	seconds                  float64
	reasons                  map[string]int
}

func (s *sum) add(a account) {
	s.runs++
	s.sent += a.Sent
	s.lost += a.Losses
	s.seconds += a.Seconds
	for reason, count := range a.Lost {
		s.reasons[short(reason)] += count
	}
	if a.Error != "" {
		s.failed++
	}
}

// short is a reason without what Envoy says in braces, which has the bars that end a cell of a table.
func short(reason string) string {
	before, _, _ := strings.Cut(reason, "{")
	return strings.ReplaceAll(before, "|", " ")
}

// String is a cell of the table: lost of sent, and how many that is of a hundred thousand.
func (s *sum) String() string {
	if s == nil {
		return ""
	}
	text := fmt.Sprintf("%d of %s", s.lost, thousands(s.sent))
	if s.lost > 0 && s.sent > 0 {
		text = fmt.Sprintf("**%d** of %s (%.0f)", s.lost, thousands(s.sent), float64(s.lost)*1e5/float64(s.sent))
	}
	if s.failed > 0 {
		text += fmt.Sprintf(", %d of %d runs failed", s.failed, s.runs)
	}
	return text
}

// thousands separates a number's thousands.
func thousands(number int) string {
	if number < 1000 {
		return fmt.Sprint(number)
	}
	return fmt.Sprintf("%s,%03d", thousands(number/1000), number%1000)
}

// row is a story in a mode, by the kinds of pods.
type row struct {
	story, mode string
	cells       map[string]*sum
}

// rows sums all runs up, in the order in which they were told. A story's baseline stands in the first of its rows.
func rows(accounts []account) []*row {
	var rows []*row
	at := func(a account) *row {
		for _, row := range rows {
			if row.story == a.Story && (row.mode == a.Mode || a.Pods == bare) {
				return row
			}
		}
		rows = append(rows, &row{a.Story, a.Mode, map[string]*sum{}})
		return rows[len(rows)-1]
	}
	for _, a := range accounts {
		row := at(a)
		if row.cells[a.Pods] == nil {
			row.cells[a.Pods] = &sum{reasons: map[string]int{}}
		}
		row.cells[a.Pods].add(a)
	}
	return rows
}

// markdown is the table of what was lost, and the list of the reasons.
func markdown(accounts []account) string {
	var text strings.Builder
	fmt.Fprintf(&text, "| story | mode | %s | %s | %s | seconds |\n|---|---|---|---|---|---|\n", drains, exits, bare)
	all := rows(accounts)
	sums := map[string]*sum{}
	for _, row := range all {
		var seconds float64
		var runs int
		for kind, cell := range row.cells {
			if sums[kind] == nil {
				sums[kind] = &sum{reasons: map[string]int{}}
			}
			sums[kind].lost += cell.lost
			sums[kind].sent += cell.sent
			sums[kind].runs += cell.runs
			sums[kind].failed += cell.failed
			if kind != bare {
				seconds += cell.seconds
				runs += cell.runs
			}
		}
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s | %s | %.0f |\n",
			row.story, row.mode, row.cells[drains], row.cells[exits], row.cells[bare], seconds/float64(max(runs, 1)))
	}
	fmt.Fprintf(&text, "| all | | %s | %s | %s | |\n", sums[drains], sums[exits], sums[bare])
	text.WriteString("\nLost of sent, and in brackets lost of 100,000; the seconds are the mean of a rollout.\n")
	writeReasons(&text, all)
	for _, a := range accounts {
		if a.Error != "" {
			fmt.Fprintf(&text, "\nFailed: `%s` %s %s, run %d: %s\n", a.Story, a.Mode, a.Pods, a.Run, a.Error)
		}
	}
	return text.String()
}

func writeReasons(text *strings.Builder, all []*row) {
	header := "\n| story | mode | pods | why |\n|---|---|---|---|\n"
	for _, row := range all {
		for _, kind := range []string{drains, exits, bare} {
			cell := row.cells[kind]
			if cell == nil || cell.lost == 0 {
				continue
			}
			mode := row.mode
			if kind == bare {
				mode = none
			}
			fmt.Fprintf(text, "%s| `%s` | %s | %s | %s |\n", header, row.story, mode, kind, strings.Join(reasons(cell.reasons), "; "))
			header = ""
		}
	}
}

// reasons are counts by reason, the most frequent first.
func reasons(counts map[string]int) []string {
	var names []string
	for name := range counts {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := names[i], names[j]
		return counts[a] > counts[b] || (counts[a] == counts[b] && a < b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d × %s", counts[name], name)
	}
	return names
}
