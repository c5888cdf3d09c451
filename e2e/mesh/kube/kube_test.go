package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newClient is a client of an API server that answers so.
func newClient(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return &Client{host: server.URL, token: "t", http: server.Client()}
}

func TestWatchListsAndFollowsAndBeginsAgain(t *testing.T) {
	lists := 0
	client := newClient(t, func(answer http.ResponseWriter, request *http.Request) {
		switch request.URL.RawQuery {
		case "":
			lists++
			fmt.Fprintf(answer, `{"metadata":{"resourceVersion":"7"},"items":[{"n":%d}]}`, lists)
		case "watch=true&resourceVersion=7":
			fmt.Fprint(answer, `{"type":"MODIFIED","object":{"n":9}}{"type":"ERROR","object":{}}{"type":"ADDED","object":{"n":10}}`)
		default:
			t.Error(request.URL)
		}
	})
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	var seen []string
	client.Watch(ctx, "/things", func(event Event) {
		seen = append(seen, event.Type+string(event.Object))
		if len(seen) == 4 {
			stop()
		}
	})
	got := strings.Join(seen[:4], " ")
	if got != `LISTED{"n":1} SYNCED MODIFIED{"n":9} LISTED{"n":2}` {
		t.Error(got)
	}
}

func TestAnswersThatAreNoSuccess(t *testing.T) {
	for code, want := range map[int]bool{http.StatusNotFound: true, http.StatusConflict: true, http.StatusForbidden: false} {
		client := newClient(t, func(answer http.ResponseWriter, request *http.Request) {
			answer.WriteHeader(code)
			fmt.Fprint(answer, `{"message":"no"}`)
		})
		err := client.Remove(context.Background(), "/thing", "uid")
		if err == nil || !strings.HasSuffix(err.Error(), ": no") || IsGone(err) != want {
			t.Errorf("%d: %v", code, err)
		}
	}
	if IsGone(nil) {
		t.Error("nothing is gone")
	}
}
