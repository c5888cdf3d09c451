// Package kube is a client of an API server by HTTP and JSON alone.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

// Client speaks to one API server.
type Client struct {
	host, token string
	http        *http.Client
}

// kubeconfig is what is read of a kubeconfig.
type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server    string `json:"server"`
			Authority []byte `json:"certificate-authority-data"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		User struct {
			Token string `json:"token"`
		} `json:"user"`
	} `json:"users"`
}

// FromEnvironment is the client of the kubeconfig, written as JSON, that KUBECONFIG names.
func FromEnvironment() (*Client, error) {
	path := os.Getenv("KUBECONFIG")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read KUBECONFIG: %w", err)
	}
	var config kubeconfig
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s is not JSON: %w", path, err)
	}
	if len(config.Clusters) != 1 || len(config.Users) != 1 {
		return nil, fmt.Errorf("%s: one cluster and one user are expected", path)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(config.Clusters[0].Cluster.Authority) {
		return nil, fmt.Errorf("%s has no certificate authority", path)
	}
	return &Client{
		host:  config.Clusters[0].Cluster.Server,
		token: config.Users[0].User.Token,
		http: &http.Client{Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: authorities},
			ForceAttemptHTTP2: true,
		}},
	}, nil
}

// StatusError is an answer of the API server that is no success.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// IsGone says whether the object is not there, or not that one.
func IsGone(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusConflict)
}

// IsMissing says whether the object is not there.
func IsMissing(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

func (c *Client) send(ctx context.Context, method, path, kind string, body any) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.host+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		defer response.Body.Close()
		var status struct{ Message string }
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
		_ = json.Unmarshal(text, &status)
		return nil, &StatusError{Code: response.StatusCode, Message: status.Message}
	}
	return response, nil
}

func (c *Client) do(ctx context.Context, method, path, kind string, body, into any) error {
	response, err := c.send(ctx, method, path, kind, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// Proxy hands requests on to the API server, as this client; what is watched comes at once.
func (c *Client) Proxy() (*httputil.ReverseProxy, error) {
	host, err := url.Parse(c.host)
	if err != nil {
		return nil, err
	}
	rewrite := func(request *httputil.ProxyRequest) {
		request.SetURL(host)
		request.Out.Header.Set("Authorization", "Bearer "+c.token)
	}
	// Connections of its own: over HTTP/2 many watches leave no stream of one connection to other requests.
	transport := c.http.Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2, transport.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	transport.TLSClientConfig.NextProtos = nil
	transport.MaxIdleConnsPerHost = 100
	return &httputil.ReverseProxy{Rewrite: rewrite, Transport: transport, FlushInterval: -1}, nil
}

// Get reads an object or a list.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, into)
}

// Apply applies an object server-side, as a GitOps tool does.
func (c *Client) Apply(ctx context.Context, path string, object any) error {
	return c.do(ctx, http.MethodPatch, path+"?fieldManager=git&force=true", "application/apply-patch+yaml", object, nil)
}

// Patch changes an object by a merge patch.
func (c *Client) Patch(ctx context.Context, path string, patch any) error {
	return c.do(ctx, http.MethodPatch, path, "application/merge-patch+json", patch, nil)
}

// Create creates an object in the collection of that path.
func (c *Client) Create(ctx context.Context, path string, object any) error {
	return c.CreateInto(ctx, path, object, nil)
}

// CreateInto creates an object, and reads what became of it.
func (c *Client) CreateInto(ctx context.Context, path string, object, into any) error {
	return c.do(ctx, http.MethodPost, path, "application/json", object, into)
}

// Delete deletes an object, or a collection; what is not there is no error.
func (c *Client) Delete(ctx context.Context, path string) error {
	err := c.do(ctx, http.MethodDelete, path, "", nil, nil)
	if IsMissing(err) {
		return nil
	}
	return err
}

// Remove deletes a pod's object at once, if it is still that one.
func (c *Client) Remove(ctx context.Context, path, uid string) error {
	return c.do(ctx, http.MethodDelete, path, "application/json", map[string]any{
		"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": map[string]any{"uid": uid},
	}, nil)
}

// Event is one object of a list, or a change of one object. Synced follows each list, and has no object.
type Event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// Types of events, beside the API server's own.
const (
	Listed = "LISTED"
	Synced = "SYNCED"
)

// Watch lists a collection and follows its changes, and begins again after a failure, until the context is done.
func (c *Client) Watch(ctx context.Context, path string, see func(Event)) {
	for ctx.Err() == nil {
		_ = c.watchOnce(ctx, path, see)
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *Client) watchOnce(ctx context.Context, path string, see func(Event)) error {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []json.RawMessage `json:"items"`
	}
	if err := c.Get(ctx, path, &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		see(Event{Type: Listed, Object: item})
	}
	see(Event{Type: Synced})
	response, err := c.send(ctx, http.MethodGet, path+"?watch=true&resourceVersion="+list.Metadata.ResourceVersion, "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for {
		var event Event
		if err := decoder.Decode(&event); err != nil {
			return err
		}
		if event.Type == "ERROR" {
			return fmt.Errorf("watch %s: %s", path, event.Object)
		}
		see(event)
	}
}
