package story

import (
	"encoding/json"
	"strings"
	"testing"
)

func text(t *testing.T, of any) string {
	t.Helper()
	text, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryObjectOfGitIsTakenAway(t *testing.T) {
	for _, mode := range append([]string{none}, modes...) {
		s := setting{mode: mode}
		for _, o := range append(s.route(), s.deployment(1), s.analysis()) {
			if !strings.Contains(strings.Join(stays(), " "), placed(o)) {
				t.Errorf("%s: %s would stay", mode, placed(o))
			}
		}
		if placed(s.rollout(1)) != rolloutPath || placed(s.follower()) != rolloutPath {
			t.Error(placed(s.rollout(1)))
		}
	}
}

func TestStrategies(t *testing.T) {
	more := object{"trafficRouting": object{"managedRoutes": []any{object{"name": "a"}}}, "dynamicStableScale": true}
	for mode, want := range map[string]string{
		owned:    `"owned":{"gateways":["istio-system/gw-1","istio-system/gw-2","mesh"],"host":"checkout","hosts":["checkout.shop.svc.cluster.local"]}`,
		delegate: `"owned":{"host":"checkout"}`,
		inPlace:  `"virtualService":{"name":"checkout","routes":["primary"]}`,
		hosts:    `"stableService":"checkout-stable"`,

		httpRoute: `"gatewayAPI":{"httpRoute":{"name":"checkout","rules":["primary"]}}`,
		waypoint:  `"gatewayAPI":{"httpRoute":{"name":"checkout","rules":["primary"]}}`,
	} {
		got := text(t, setting{mode: mode, canary: more, steps: weights(5)}.strategy())
		for _, want := range []string{want, `"managedRoutes":[{"name":"a"}]`, `"dynamicStableScale":true`, `"steps":[{"setWeight":5}]`} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %s is not in %s", mode, want, got)
			}
		}
	}
	if got := text(t, setting{mode: hosts, lines: true}.strategy()); !strings.Contains(got, `"tcpRoutes":[{"port":9000}]`) {
		t.Error(got)
	}
}

func TestOneOfSeveralPortsIsNamed(t *testing.T) {
	for mode, want := range map[string]string{
		delegate: `"owned":{"host":"checkout","port":80}`, inPlace: `"port":{"number":80}`, hosts: `"port":{"number":80}`,
	} {
		s := setting{mode: mode, second: true}
		if got := text(t, s.strategy()) + text(t, s.route()); !strings.Contains(got, want) {
			t.Errorf("%s: %s is not in %s", mode, want, got)
		}
	}
	if got := text(t, setting{mode: owned, second: true}.strategy()); strings.Contains(got, "port") {
		t.Errorf("it is Serin's to find: %s", got)
	}
	if got := text(t, setting{calls: true}.service(app)); !strings.Contains(got, `"name":"grpc"`) {
		t.Error(got)
	}
}

func TestQueryAsksForTheCanaryOfTheMode(t *testing.T) {
	for mode, want := range map[string]string{
		owned:   "outbound|80|checkout-canary|checkout.shop.svc.cluster.local",
		inPlace: "outbound|80|canary|checkout.shop.svc.cluster.local",
		hosts:   "outbound|80||checkout-canary.shop.svc.cluster.local",

		httpRoute: "outbound|80||checkout-canary.shop.svc.cluster.local",
		waypoint:  "inbound-vip|80|http|checkout-canary.shop.svc.cluster.local",
	} {
		s := setting{mode: mode}
		if s.cluster() != want || !strings.Contains(text(t, s.analysis()), want) {
			t.Errorf("%s: %s", mode, s.cluster())
		}
	}
}

func TestAWaypointIsAskedForTheAddressOfTheService(t *testing.T) {
	s := setting{mode: waypoint}
	if got := text(t, s.route()); !strings.Contains(got, `"clusterIP":"10.0.200.1"`) || strings.Contains(got, "gw-1") {
		t.Error(got)
	}
	if got := text(t, setting{mode: httpRoute}.route()); strings.Contains(got, "clusterIP") || !strings.Contains(got, `"name":"gw-1"`) {
		t.Error(got)
	}
	w := newWorld().of(story{}, waypoint, exits)
	config := w.load(appHost, 1)
	if len(config.Targets) != 1 || config.Targets[0] != atWaypoint || config.Tunnel.Authority != "10.0.200.1:80" {
		t.Errorf("%+v", config)
	}
	if config := w.load(webHost, 1); config.Tunnel.Authority != "10.0.200.2:80" {
		t.Errorf("%+v", config)
	}
	if config := newWorld().of(story{}, httpRoute, exits).load(appHost, 1); config.Tunnel != nil || len(config.Targets) != 3 {
		t.Errorf("%+v", config)
	}
}
