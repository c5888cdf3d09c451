package load

import (
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"time"

	"serin.dev/e2e/mesh/echo"
)

// outageGap is the longest time between two lost requests of one outage.
const outageGap = 500 * time.Millisecond

// Report is the account of a run. It is not for use by several goroutines at once.
type Report struct {
	sent     int
	answered map[string]int
	failed   map[string]int
	lost     []Result
	second   map[string]int
	longest  time.Duration
	pinned   Pinned
}

// NewReport is an empty account.
func NewReport() *Report {
	return &Report{
		answered: map[string]int{}, failed: map[string]int{}, second: map[string]int{}, pinned: Pinned{Answered: map[string]int{}},
	}
}

// Pinned is what came of the requests that asked for the canary. Sent and lost ones are in the whole, too.
type Pinned struct {
	Sent     int            `json:"sent"`
	Losses   int            `json:"losses"`
	Answered map[string]int `json:"answered"`
}

// Summary is what came of a run.
type Summary struct {
	Sent int `json:"sent"`
	// Answered by 200, by revision.
	Answered map[string]int `json:"answered"`
	// Failed by the application's own 500, or gRPC status, by revision.
	Failed map[string]int `json:"failed,omitempty"`
	// Lost by reason: what the data plane answered in place of a pod, or the client's error.
	Lost   map[string]int `json:"lost,omitempty"`
	Losses int            `json:"losses"`
	// LongestOutage is the time from the first to the last of lost requests that are at most half a second apart.
	LongestOutage float64 `json:"longestOutageMs"`
	Slowest       float64 `json:"slowestMs"`
	Pinned        *Pinned `json:"pinned,omitempty"`
}

// IsLost says whether no pod answered the request whole.
func (r Result) IsLost() bool {
	return r.Error != "" || (!r.isGood() && r.Revision == "")
}

// isGood says whether the answer is no error.
func (r Result) isGood() bool {
	return r.Status == http.StatusOK && (r.GRPC == "" || r.GRPC == echo.OK)
}

// Reason is why a request was lost.
func (r Result) Reason() string {
	if r.Error != "" {
		return r.Error
	}
	status := fmt.Sprint(r.Status)
	if r.GRPC != "" {
		status = "grpc-status " + r.GRPC
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", status, r.Flags, r.Details))
}

// Add counts one result.
func (r *Report) Add(result Result) {
	r.sent++
	r.longest = max(r.longest, result.Duration)
	if result.Pinned {
		r.pinned.add(result)
	}
	switch {
	case result.IsLost():
		r.lost = append(r.lost, result)
		r.second["lost"]++
	case !result.isGood():
		r.failed[result.Revision]++
		r.second[result.Revision+" failed"]++
	default:
		r.answered[result.Revision]++
		r.second[result.Revision]++
	}
}

func (p *Pinned) add(result Result) {
	p.Sent++
	if result.IsLost() {
		p.Losses++
	} else {
		p.Answered[result.Revision]++
	}
}

// Second is one line on what was counted since the last call.
func (r *Report) Second() string {
	line := counts(r.second)
	r.second = map[string]int{}
	return line
}

// Lost are the lost requests, in the order that they were sent.
func (r *Report) Lost() []Result {
	sort.SliceStable(r.lost, func(i, j int) bool { return r.lost[i].At.Before(r.lost[j].At) })
	return r.lost
}

// Summary is the account so far.
func (r *Report) Summary() Summary {
	s := Summary{
		Sent: r.sent, Answered: r.answered, Failed: r.failed, Lost: map[string]int{}, Losses: len(r.lost),
		Slowest: float64(r.longest.Microseconds()) / 1000,
	}
	if r.pinned.Sent > 0 {
		s.Pinned = &r.pinned
	}
	var outage time.Duration
	var first, last time.Time
	for _, lost := range r.Lost() {
		s.Lost[lost.Reason()]++
		if first.IsZero() || lost.At.Sub(last) > outageGap {
			first = lost.At
		}
		last = lost.At
		outage = max(outage, last.Sub(first))
	}
	s.LongestOutage = float64(outage.Microseconds()) / 1000
	return s
}

// Write writes the summary for people.
func (s Summary) Write(to io.Writer) {
	fmt.Fprintf(to, "sent %d, lost %d, longest outage %.0f ms, slowest answer %.0f ms\n", s.Sent, s.Losses, s.LongestOutage, s.Slowest)
	fmt.Fprintf(to, "  answered: %s\n", counts(s.Answered))
	if len(s.Failed) > 0 {
		fmt.Fprintf(to, "  failed:   %s\n", counts(s.Failed))
	}
	if s.Pinned != nil {
		fmt.Fprintf(to, "  pinned:   sent %d, lost %d, answered: %s\n", s.Pinned.Sent, s.Pinned.Losses, counts(s.Pinned.Answered))
	}
	if len(s.Lost) > 0 {
		fmt.Fprintf(to, "  lost:     %s\n", counts(s.Lost))
	}
}

func counts(of map[string]int) string {
	var parts []string
	for name, count := range of {
		parts = append(parts, fmt.Sprintf("%s %d", name, count))
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}
