package load

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"serin.dev/e2e/mesh/echo"
)

func at(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }

func TestAccount(t *testing.T) {
	report := NewReport()
	for _, result := range []Result{
		{At: at(0), Status: 200, Revision: "a", Duration: 3 * time.Millisecond},
		{At: at(1), Status: 200, Revision: "b"},
		{At: at(2), Status: 500, Revision: "b"},
		// Two outages, told out of order: 300 ms and 20 ms.
		{At: at(2020), Status: 503, Flags: "UH", Details: "no_healthy_upstream"},
		{At: at(2000), Error: "EOF"},
		{At: at(400), Status: 503, Flags: "NC", Details: "cluster_not_found"},
		{At: at(100), Status: 503, Flags: "NC", Details: "cluster_not_found"},
		// A pod's answer that was cut is lost, whoever began it.
		{At: at(5000), Status: 200, Revision: "a", Error: "unexpected EOF"},
	} {
		report.Add(result)
	}
	s := report.Summary()
	if s.Sent != 8 || s.Answered["a"] != 1 || s.Answered["b"] != 1 || s.Failed["b"] != 1 || s.Losses != 5 {
		t.Errorf("%+v", s)
	}
	if s.Lost["503 NC cluster_not_found"] != 2 || s.Lost["503 UH no_healthy_upstream"] != 1 || s.Lost["EOF"] != 1 {
		t.Errorf("%+v", s.Lost)
	}
	if s.LongestOutage != 300 || s.Slowest != 3 {
		t.Errorf("outage %v ms, slowest %v ms", s.LongestOutage, s.Slowest)
	}
	if line := report.Second(); line != "a 1, b 1, b failed 1, lost 5" {
		t.Error(line)
	}
	if line := report.Second(); line != "" {
		t.Errorf("counted twice: %s", line)
	}
	var text bytes.Buffer
	s.Write(&text)
	if !strings.HasPrefix(text.String(), "sent 8, lost 5, longest outage 300 ms, slowest answer 3 ms\n") {
		t.Error(text.String())
	}
}

func TestEveryRequestIsCounted(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.Host != "web" {
			answer.Header().Set(flagsHeader, "NR")
			answer.WriteHeader(http.StatusNotFound)
			return
		}
		answer.Header().Set(echo.RevisionHeader, "a")
	}))
	defer server.Close()
	config := Config{
		Targets: []string{strings.TrimPrefix(server.URL, "http://"), "127.0.0.1:1"}, Host: "web",
		Rate: 1000, Count: 20, Duration: time.Minute, Timeout: time.Second,
	}
	report, err := Watched(context.Background(), config, func(string) {})
	s := report.Summary()
	if err != nil || s.Sent != 20 || s.Answered["a"] != 10 || s.Losses != 10 {
		t.Errorf("%+v %v", s, err)
	}
	if !strings.Contains(report.Lost()[0].Error, "refused") {
		t.Error(report.Lost()[0])
	}
	config.Targets, config.Host, config.Count, config.Duration = config.Targets[:1], "other", 0, 100*time.Millisecond
	report, err = Watched(context.Background(), config, func(string) {})
	if s := report.Summary(); err != nil || s.Sent != 100 || s.Lost["404 NR"] != 100 {
		t.Errorf("%+v %v", s, err)
	}
	path := filepath.Join(t.TempDir(), "lost.jsonl")
	if err := WriteLost(path, report.Lost()); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); bytes.Count(text, []byte("\n")) != 100 || !bytes.Contains(text, []byte(`"flags":"NR"`)) {
		t.Errorf("%s", text)
	}
}

func TestPinnedRequests(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		revision := "a"
		if request.Header.Get(PinHeader) == "true" {
			revision = "b"
		}
		answer.Header().Set(echo.RevisionHeader, revision)
	}))
	defer server.Close()
	config := Config{
		Targets: []string{strings.TrimPrefix(server.URL, "http://"), "127.0.0.1:1", "127.0.0.1:2"},
		Rate:    1000, Count: 24, Duration: time.Minute, Timeout: time.Second, PinnedEvery: 4,
	}
	report, err := Watched(context.Background(), config, func(string) {})
	s := report.Summary()
	if err != nil || s.Answered["a"] != 6 || s.Answered["b"] != 2 || s.Pinned.Sent != 6 || s.Pinned.Losses != 4 || s.Pinned.Answered["b"] != 2 {
		t.Errorf("%+v %+v %v", s, s.Pinned, err)
	}
}

func TestBounds(t *testing.T) {
	good := Config{Targets: []string{"127.0.0.1:80"}, Rate: 300, Duration: time.Minute}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Config){
		"rate of nothing": func(c *Config) { c.Rate = 0 },
		"rate too high":   func(c *Config) { c.Rate = 100_000 },
		"endless run":     func(c *Config) { c.Duration = 0 },
		"too long a run":  func(c *Config) { c.Duration = time.Hour },
		"no target":       func(c *Config) { c.Targets = nil },
		"foreign target":  func(c *Config) { c.Targets = []string{"192.0.2.1:80"} },
		"named target":    func(c *Config) { c.Targets = []string{"example.com:80"} },
	} {
		config := good
		change(&config)
		if config.check() == nil {
			t.Errorf("a %s is taken", what)
		}
	}
}
