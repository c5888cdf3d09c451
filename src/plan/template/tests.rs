//! Tests of templates.

use super::*;

#[test]
fn conditions_may_name_arguments() {
    let parse = |condition: &str| {
        let metric = serde_json::json!({"name": "a", "successCondition": condition, "prometheus": {"query": "up"}});
        parse_template(&serde_json::json!({"args": [{"name": "least"}], "metrics": [metric]}), End::Count)
    };
    assert!(parse("result[0] >= {{args.least}} && result[0] <= {{ args.most }}").is_ok());
    assert!(parse("result[0] >= {{least}}").is_err());
    assert!(parse("result[0] >= {{args.least}").is_err());
}

#[test]
fn arguments_stay_inside_of_requests() {
    let values = |value: &str| vec![("version".to_owned(), value.to_owned())];
    let web = |path: &str| WebMetric {
        provider: "tests".into(),
        path: path.into(),
        method: Some(WebMethod::Post),
        body: Some(r#"{"version": "{{args.version}}"}"#.into()),
        json_path: None,
    };
    let filled = fill_web("m", &web("/run/{{args.version}}?v={{ args.version }}"), &values("a/b \"c\" &d")).unwrap();
    assert_eq!(filled.path, "/run/a%2Fb%20%22c%22%20%26d?v=a%2Fb%20%22c%22%20%26d");
    assert_eq!(filled.body.as_deref(), Some(r#"{"version": "a/b \"c\" &d"}"#));
    let climbs = fill_web("m", &web("/run/{{args.version}}"), &values("..")).unwrap_err();
    assert!(climbs.to_string().starts_with("m.web.path: args.version is"), "{climbs}");
    let unknown = fill_web("m", &web("/{{args.other}}"), &values("1")).unwrap_err();
    assert!(unknown.to_string().contains("does not declare"), "{unknown}");
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let told = |web: Value| {
        let metric = serde_json::json!({"name": "a", "web": web});
        parse_template(&serde_json::json!({"metrics": [metric]}), End::Count)
            .err()
            .into_iter()
            .flatten()
            .map(|fault| fault.path)
            .collect::<Vec<_>>()
    };
    let web = |more: &Value| {
        let mut web = serde_json::json!({"provider": "tests", "path": "/"});
        json_patch::merge(&mut web, more);
        told(web)
    };
    assert_eq!(web(&serde_json::json!({})), Vec::<String>::new());
    assert_eq!(web(&serde_json::json!({"path": "@elsewhere/"})), ["spec.metrics[0].web.path"]);
    assert_eq!(web(&serde_json::json!({"body": "{}"})), ["spec.metrics[0].web.body"]);
    assert_eq!(web(&serde_json::json!({"jsonPath": "data..["})), ["spec.metrics[0].web.jsonPath"]);
}

#[test]
fn arguments_are_filled_in() {
    let values = vec![("service".to_owned(), "checkout".to_owned())];
    assert_eq!(interpolate("up{job=\"{{args.service}}\"}", &values), Ok("up{job=\"checkout\"}".into()));
    assert_eq!(interpolate("up{job=\"{{ args.service }}\"}", &values), Ok("up{job=\"checkout\"}".into()));
    assert_eq!(interpolate("{{args.other}}", &values), Err("other".into()));
    assert_eq!(interpolate("{{ not closed", &values), Ok("{{ not closed".into()));
}
