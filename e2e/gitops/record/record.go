// Package record stands between the GitOps engines and the API server, and writes down what they write.
package record

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httputil"
	"reflect"
	"strings"
	"sync"
	"time"

	"serin.dev/e2e/mesh/kube"
)

// Write is one write of an engine; a dry run is none.
type Write struct {
	Time time.Time `json:"time"`
	// Agent is who wrote, by the name of the program.
	Agent string `json:"agent"`
	// Operation is create, update, patch, apply or delete.
	Operation string `json:"operation"`
	Group     string `json:"group"`
	// Resource is the plural of the kind, with the subresource if there is one.
	Resource  string `json:"resource"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Status    int    `json:"status"`
	// Changed says whether the object became another one, besides its status and what the API server keeps.
	Changed bool `json:"changed"`
}

// Recorder hands requests on to the API server.
type Recorder struct {
	client *kube.Client
	proxy  *httputil.ReverseProxy
	lock   sync.Mutex
	out    *json.Encoder
}

// New is a recorder that writes a line of JSON for each write.
func New(client *kube.Client, out io.Writer) (*Recorder, error) {
	proxy, err := client.Proxy()
	if err != nil {
		return nil, err
	}
	recorder := &Recorder{client: client, proxy: proxy, out: json.NewEncoder(out)}
	proxy.ModifyResponse = recorder.see
	return recorder, nil
}

// pending is a write whose answer is awaited, and the object as it was before.
type pending struct {
	write  Write
	before any
}

type pendingKey struct{}

func (r *Recorder) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	write, isWrite := parse(request)
	if isWrite {
		awaited := pending{write: write}
		if write.Operation != "create" {
			// What is not there yet is nil.
			_ = r.client.Get(request.Context(), request.URL.Path, &awaited.before)
		}
		// So the answer is read as it is.
		request.Header.Del("Accept-Encoding")
		request = request.WithContext(context.WithValue(request.Context(), pendingKey{}, awaited))
	}
	r.proxy.ServeHTTP(answer, request)
}

// see writes down what has become of a write.
func (r *Recorder) see(response *http.Response) error {
	awaited, isWrite := response.Request.Context().Value(pendingKey{}).(pending)
	if !isWrite {
		return nil
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	response.Body = io.NopCloser(bytes.NewReader(text))
	write := awaited.write
	write.Time, write.Status = time.Now(), response.StatusCode
	var after any
	isJSON := json.Unmarshal(text, &after) == nil
	if write.Name == "" {
		write.Name = name(after)
	}
	isDone := response.StatusCode/100 == 2
	write.Changed = isDone && (write.Operation == "delete" || !isJSON || !reflect.DeepEqual(essence(awaited.before), essence(after)))
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.out.Encode(write)
}

// parse is the write that a request asks for.
func parse(request *http.Request) (Write, bool) {
	query := request.URL.Query()
	write := Write{Agent: strings.SplitN(request.UserAgent(), "/", 2)[0]}
	switch request.Method {
	case http.MethodPost:
		write.Operation = "create"
	case http.MethodPut:
		write.Operation = "update"
	case http.MethodDelete:
		write.Operation = "delete"
	case http.MethodPatch:
		write.Operation = "patch"
		if strings.HasPrefix(request.Header.Get("Content-Type"), "application/apply-patch") {
			write.Operation = "apply"
		}
	default:
		return Write{}, false
	}
	parts := strings.Split(strings.Trim(request.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		write.Group, parts = parts[1], parts[3:]
	default:
		return Write{}, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		write.Namespace, parts = parts[1], parts[2:]
	}
	write.Resource = parts[0]
	if len(parts) > 1 {
		write.Name = parts[1]
	}
	if len(parts) > 2 {
		write.Resource += "/" + parts[2]
	}
	// Reviews of access are questions.
	return write, !query.Has("dryRun") && !strings.HasSuffix(write.Resource, "reviews")
}

// essence is what people write of an object.
func essence(object any) map[string]any {
	whole, _ := object.(map[string]any)
	rest := map[string]any{}
	for key, value := range whole {
		if key != "status" && key != "metadata" {
			rest[key] = value
		}
	}
	metadata, _ := whole["metadata"].(map[string]any)
	for _, key := range []string{"labels", "annotations", "finalizers", "ownerReferences"} {
		rest["metadata."+key] = metadata[key]
	}
	return rest
}

func name(object any) string {
	whole, _ := object.(map[string]any)
	metadata, _ := whole["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	return name
}
