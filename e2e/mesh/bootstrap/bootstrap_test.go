package bootstrap

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

var gateway = Proxy{
	Kind: "router", Name: "gw-1", Namespace: "istio-system", Address: "127.0.0.100", Admin: "127.0.0.1:15000", Discovery: "127.0.0.1:15010",
}

// rendered is what is looked at of a bootstrap.
type rendered struct {
	Node struct {
		ID       string         `json:"id"`
		Metadata map[string]any `json:"metadata"`
	} `json:"node"`
	Admin struct {
		Address struct {
			Socket struct {
				Address string `json:"address"`
				Port    int    `json:"port_value"`
			} `json:"socket_address"`
		} `json:"address"`
	} `json:"admin"`
}

func render(t *testing.T, p Proxy) rendered {
	t.Helper()
	text, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	var r rendered
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGateway(t *testing.T) {
	r := render(t, gateway)
	if r.Node.ID != "router~127.0.0.100~gw-1.istio-system~istio-system.svc.cluster.local" {
		t.Error(r.Node.ID)
	}
	if r.Node.Metadata["LABELS"].(map[string]any)["app"] != "gw-1" {
		t.Error(r.Node.Metadata)
	}
	if r.Admin.Address.Socket.Address != "127.0.0.1" || r.Admin.Address.Socket.Port != 15000 {
		t.Error(r.Admin)
	}
	if _, found := r.Node.Metadata["INTERCEPTION_MODE"]; found {
		t.Error("a gateway intercepts nothing")
	}
}

func TestSidecar(t *testing.T) {
	p := gateway
	p.Kind, p.Name, p.Namespace, p.Label = "sidecar", "client-1", "shop", "client"
	r := render(t, p)
	if r.Node.ID != "sidecar~127.0.0.100~client-1.shop~shop.svc.cluster.local" || r.Node.Metadata["INTERCEPTION_MODE"] != "NONE" {
		t.Error(r.Node)
	}
	if r.Node.Metadata["WORKLOAD_NAME"] != "client" {
		t.Error(r.Node.Metadata)
	}
}

func TestRefusals(t *testing.T) {
	for what, change := range map[string]func(*Proxy){
		"kind":    func(p *Proxy) { p.Kind = "ztunnel" },
		"name":    func(p *Proxy) { p.Name = "" },
		"address": func(p *Proxy) { p.Address = "localhost" },
		"admin":   func(p *Proxy) { p.Admin = "127.0.0.1" },
		"port":    func(p *Proxy) { p.Discovery = "127.0.0.1:70000" },
	} {
		p := gateway
		change(&p)
		if _, err := Render(p); err == nil {
			t.Errorf("a wrong %s is taken", what)
		}
	}
}

// A tag's first group is cut out of the name, its second is the value.
func TestStatsTags(t *testing.T) {
	for _, want := range []struct{ name, left, tags string }{
		{"cluster.outbound|80|a|web.shop.svc.cluster.local;.upstream_rq_200", "cluster.upstream_rq",
			"cluster_name=outbound|80|a|web.shop.svc.cluster.local response_code=200"},
		{"cluster.xds-grpc;.upstream_rq_5xx", "cluster.upstream_rq", "cluster_name=xds-grpc response_code_class=5xx"},
		{"cluster.xds-grpc;.upstream_rq_time", "cluster.upstream_rq_time", "cluster_name=xds-grpc"},
		{"http.outbound_127.0.0.100_8080;.downstream_rq_5xx", "http.downstream_rq",
			"http_conn_manager_prefix=outbound_127.0.0.100_8080 response_code_class=5xx"},
		{"http.outbound_127.0.0.100_8080;.no_cluster", "http.no_cluster", "http_conn_manager_prefix=outbound_127.0.0.100_8080"},
	} {
		left, tags := want.name, []string{}
		for _, tag := range statsTags {
			found := regexp.MustCompile(tag["regex"].(string)).FindStringSubmatch(want.name)
			if found != nil {
				left = strings.Replace(left, found[1], "", 1)
				tags = append(tags, tag["tag_name"].(string)+"="+found[2])
			}
		}
		if left != want.left || strings.Join(tags, " ") != want.tags {
			t.Errorf("%s: %s, %v", want.name, left, tags)
		}
	}
}

func TestWaypoint(t *testing.T) {
	p := gateway
	p.Kind, p.Name, p.Namespace, p.Label, p.Secrets = "waypoint", "waypoint-1", "shop", "waypoint", "/run/secrets.sock"
	text, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"waypoint~127.0.0.100~waypoint-1.shop~shop.svc.cluster.local"`, `"gateway.networking.k8s.io/gateway-name": "waypoint"`,
		`"path": "/run/secrets.sock"`, `"sds-grpc"`, "envoy.bootstrap.internal_listener",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	for _, kind := range []string{"router", "waypoint"} {
		p := gateway
		p.Kind = kind
		if kind == "router" {
			p.Secrets = "/run/secrets.sock"
		}
		if _, err := Render(p); err == nil {
			t.Errorf("a %s is rendered with secrets %q", kind, p.Secrets)
		}
	}
}
