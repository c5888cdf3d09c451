// Command receiver takes traces by OTLP, over HTTP and over gRPC, by the OpenTelemetry Collector's own package for its data
// (pdata), and writes each request down as a line of OTLP's JSON. It is not the Collector.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip"
)

// writer writes requests down, one at a time.
type writer struct {
	ptraceotlp.UnimplementedGRPCServer
	mutex sync.Mutex
	out   io.Writer
}

// Export takes what came by gRPC.
func (w *writer) Export(_ context.Context, request ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	return ptraceotlp.NewExportResponse(), w.write(request.Traces())
}

func (w *writer) write(traces ptrace.Traces) error {
	marshaler := ptrace.JSONMarshaler{}
	line, err := marshaler.MarshalTraces(traces)
	if err != nil {
		return err
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	_, err = fmt.Fprintf(w.out, "%s\n", line)
	return err
}

// ServeHTTP takes what came by HTTP, as protobuf.
func (w *writer) ServeHTTP(answer http.ResponseWriter, asked *http.Request) {
	request := ptraceotlp.NewExportRequest()
	body, err := io.ReadAll(asked.Body)
	if err == nil {
		err = request.UnmarshalProto(body)
	}
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	if err := w.write(request.Traces()); err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	response, _ := ptraceotlp.NewExportResponse().MarshalProto()
	answer.Header().Set("content-type", "application/x-protobuf")
	_, _ = answer.Write(response)
}

func run() error {
	overHTTP := flag.String("http", "127.0.0.1:4318", "address for OTLP over HTTP")
	overGRPC := flag.String("grpc", "127.0.0.1:4317", "address for OTLP over gRPC")
	path := flag.String("out", "traces.jsonl", "file of what came")
	flag.Parse()
	out, err := os.Create(*path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := &writer{out: out}
	listener, err := net.Listen("tcp", *overGRPC)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(server, w)
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	mux := http.NewServeMux()
	mux.Handle("POST /v1/traces", w)
	go func() { failed <- http.ListenAndServe(*overHTTP, mux) }()
	return <-failed
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1)
	}
}
