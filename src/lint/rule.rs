//! Every rule of lint, once: its name, its level, what it says and how to mend what it finds. `docs/lint.md` explains each.

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is refused, or a rollout fails or does what nobody means.
    Error,
    /// It works, and most likely not as it is meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl Level {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Its name, which stays.
    pub id: &'static str,
    /// How bad what it finds is.
    pub level: Level,
    /// What it finds, in one line.
    pub title: &'static str,
    /// How to mend it, where a finding says nothing better.
    pub fix: &'static str,
}

impl Rule {
    /// Where it is explained.
    pub fn help(&self) -> String {
        format!("docs/lint.md#{}", self.id)
    }
}

macro_rules! rules {
    ($($name:ident = $id:literal, $level:ident, $title:literal, $fix:literal;)*) => {
        $(#[doc = $title] pub const $name: Rule = Rule { id: $id, level: Level::$level, title: $title, fix: $fix };)*
        /// All rules, in the order of `docs/lint.md`.
        pub const ALL: &[&Rule] = &[$(&$name,)*];
    };
}

rules! {
    UNREADABLE = "unreadable", Error, "The input cannot be read.", "check the path and its permissions";
    YAML_SYNTAX = "yaml-syntax", Error, "The text is not YAML.", "correct the text at this place";
    YAML_DUPLICATE_KEY = "yaml-duplicate-key", Error, "A key stands twice in one map.", "remove one of them; readers of YAML disagree which one counts";
    YAML_ALIAS = "yaml-alias", Error, "An alias leads nowhere, or into itself.", "write the value out, or define the anchor before it in the same document";
    YAML_TOO_LARGE = "yaml-too-large", Error, "The text is too large, too deep, or grows by its aliases.", "split the input";
    YAML_NOT_TEXT = "yaml-not-text", Error, "The text is not UTF-8.", "save the file as UTF-8";
    YAML_AMBIGUOUS = "yaml-ambiguous", Warning, "A scalar without quotes is read as something else than it looks like.", "put it in quotes";
    NOT_AN_OBJECT = "not-an-object", Note, "A document is not a Kubernetes object.", "give it apiVersion and kind, or leave the file out";
    UNKNOWN_KIND = "unknown-kind", Error, "Serin has no such kind or version.", "write apiVersion serin.dev/v1alpha1 and one of Serin's kinds";
    DUPLICATE_OBJECT = "duplicate-object", Warning, "An object stands twice in the input.", "remove one; the last one applied wins";
    MALFORMED_OBJECT = "malformed-object", Error, "An object that a Rollout depends on cannot be read.", "correct the field";
    UNKNOWN_FIELD = "unknown-field", Error, "A field is unknown; API servers drop it silently.", "correct its name or its indentation, or remove it";
    SCHEMA = "schema", Error, "The definition's schema refuses the object.", "correct the field; kubectl explain tells its type and bounds";
    CEL_RULE = "cel-rule", Error, "A rule of the definition refuses the object.", "";
    INVALID_STRATEGY = "invalid-strategy", Error, "The controller refuses the Rollout.", "";
    INVALID_TEMPLATE = "invalid-template", Error, "The controller refuses the analysis template.", "";
    INVALID_PROVIDER = "invalid-provider", Error, "The controller refuses the metric provider.", "";
    INVALID_CHANNEL = "invalid-channel", Error, "The controller refuses the notification channel, or a part of it.", "";
    NOTIFICATION_HOST = "notification-host", Warning, "A notification channel asks a host that is not known to everybody.", "";
    OBJECT_NAME = "object-name", Error, "API servers refuse the object's name, or that of its namespace.", "correct the name, and where others name the object";
    LABEL = "label", Error, "API servers refuse a label or an annotation.", "correct it here and where it is selected";
    CONTAINER = "container", Error, "API servers refuse a container of the template, so that no pod of the revision comes.", "correct the container";
    PORT_NAME = "port-name", Error, "API servers refuse the name of a port.", "correct the name here and where it is used";
    NOT_IN_INPUT = "not-in-input", Note, "Something that a Rollout names is not in the input.", "lint it together with the objects that it names";
    NAME_NOT_REWRITTEN = "name-not-rewritten", Error, "A name lacks the prefix or suffix that kustomize gave to the object.", "tell kustomize which fields of a Rollout are names";
    NAME_MISSPELT = "name-misspelt", Error, "A name is nearly that of an object in the input.", "correct the name";
    ROUTE = "route", Error, "The route cannot be used as it is.", "";
    ROUTE_SHARED = "route-shared", Error, "Two Rollouts write the same route.", "give each Rollout a route of its own";
    HOST_TWICE = "host-twice", Warning, "Two VirtualServices hold one host at one gateway.", "put the routes of one host into one VirtualService";
    ROUTE_AT_REST = "route-at-rest", Warning, "A route in Git gives the canary weight at rest.", "give stable all of the weight";
    SERVICE_SELECTS_NO_PODS = "service-selects-no-pods", Error, "A Service selects labels that the pods lack.", "make the Service's selector match spec.template.metadata.labels";
    SERVICE_SELECTS_ONE_REVISION = "service-selects-one-revision", Warning, "A Service selects on a label that changes with the revision.", "select only on labels that every revision has";
    SERVICE_PORT = "service-port", Error, "A Service's targetPort names no port of the containers.", "name a port of a container, or write its number";
    SELECTORS_OVERLAP = "selectors-overlap", Error, "Two Rollouts select the same pods.", "add a label to both selectors that tells them apart";
    DEPLOYMENT_OVERLAPS = "deployment-overlaps", Warning, "A Deployment runs pods that the Rollout selects, too.", "remove the Deployment once the Rollout serves";
    WORKLOAD_REPLICAS = "workload-replicas", Warning, "The Deployment of workloadRef keeps its pods.", "once the Rollout serves, write replicas: 0; or leave replicas out, and Serin scales it to 0 by then";
    MUTABLE_SELECTOR = "mutable-selector", Warning, "The selector holds a label that changes with releases; it cannot be changed later.", "remove the label from the selector";
    AUTOSCALER_TARGET = "autoscaler-target", Error, "An autoscaler scales something else than the Rollout.", "write scaleTargetRef: {apiVersion: serin.dev/v1alpha1, kind: Rollout, name: …}";
    REPLICAS_AND_AUTOSCALER = "replicas-and-autoscaler", Warning, "Git and an autoscaler both set the replicas.", "remove spec.replicas; Serin writes what the autoscaler reads";
    ARGUMENT = "argument", Error, "An argument has no value, or is not declared.", "give the argument in the Rollout's args, and declare it in the template's";
    ARGUMENT_UNUSED = "argument-unused", Warning, "An argument is given that no template declares.", "remove it, or correct its name";
    METRIC_TWICE = "metric-twice", Error, "One analysis has two metrics of one name.", "rename one of them";
    PROMQL = "promql", Error, "A query is not PromQL.", "correct the query; the arguments are filled in before it is read";
    PROMQL_FUNCTION = "promql-function", Warning, "A query calls a function that Prometheus does not have.", "correct its name; where the provider is another server that has it, ignore this rule";
    QUERY_WITHOUT_REVISION = "query-without-revision", Warning, "A query does not tell the canary from stable.", "select the canary's series, such as destination_canonical_revision=\"{{args.revision}}\" with valueFrom: {podTemplateHashValue: Latest}";
    WINDOW_TOO_SHORT = "window-too-short", Warning, "A query's window is shorter than two scrapes, so that it often has no data.", "make the window at least twice the scrape interval";
    WINDOW_BEFORE_STEP = "window-before-step", Warning, "The first measurement looks back to before the step.", "set initialDelay to at least the window";
    INTERVAL_TOO_SHORT = "interval-too-short", Note, "Measurements come faster than the metrics change.", "make the interval at least the scrape interval";
    SMALLEST_REGRESSION = "smallest-regression", Note, "What a metric with compare or limit can see at the traffic that is said to come.", "give the step more weight or more time where that is too little";
    ANALYSIS_ALWAYS_PASSES = "analysis-always-passes", Warning, "A metric passes whatever the answer is.", "add successCondition or failureCondition";
    ANALYSIS_NEVER_PASSES = "analysis-never-passes", Warning, "A metric does not pass by the best answer there is.", "correct the condition: requestSuccessRate is a fraction, 0 to 1, requestDuration is in milliseconds";
    ANALYSIS_CANNOT_FAIL = "analysis-cannot-fail", Warning, "A metric tolerates every failure.", "make failureLimit smaller than count";
    NO_DATA_PASSES = "no-data-passes", Note, "No data counts as a success: a canary without traffic passes.", "use onNoData: Wait, so that silence is no verdict";
    ANALYSIS_BEFORE_TRAFFIC = "analysis-before-traffic", Warning, "A step measures before the canary has any traffic, and may wait for ever.", "put a setWeight above 0 before the analysis";
    BACKGROUND_ENDS_EARLY = "background-ends-early", Warning, "The background analysis is over before the steps are.", "remove count: without it the background measures to the end";
    WEIGHT_NOT_RISING = "weight-not-rising", Warning, "A weight does not rise.", "make the weights rise, or remove the step";
    FIRST_WEIGHT_FULL = "first-weight-full", Warning, "The first weight is 100: there is no canary.", "begin with a small weight";
    STEPS_AFTER_FULL = "steps-after-full", Note, "Steps follow a weight of 100, where a failure hits everybody.", "gate before the last weight";
    WEIGHT_WITHOUT_POD = "weight-without-pod", Warning, "The pods cannot give this weight.", "raise spec.replicas, choose a weight that the pods can give, or use trafficRouting";
    SCALE_BELOW_WEIGHT = "scale-below-weight", Warning, "The canary has too few pods for its weight.", "scale the canary up before the weight, or use matchTrafficWeight";
    NO_GATE = "no-gate", Note, "Nothing but the pods' readiness holds a bad canary.", "add an analysis, or a pause";
    APPROVAL_STEP = "approval-step", Warning, "An approval is for a step that there is not.", "correct the name of the step, or remove the approval";
    LONG_STEP = "long-step", Note, "A step takes longer than a day.", "shorten it, or let a person end it: pause: {}";
    DEADLINE_TOO_SHORT = "deadline-too-short", Warning, "The pods cannot be available before the deadline.", "raise progressDeadlineSeconds";
    NO_READINESS_PROBE = "no-readiness-probe", Note, "A container has no readinessProbe, so that its pod is ready before it can serve.", "add a readinessProbe";
    IMAGE_NOT_PINNED = "image-not-pinned", Warning, "An image has no tag, or the tag latest: a new one starts no canary.", "name a version or a digest";
    CANONICAL_REVISION = "canonical-revision", Warning, "The template sets the label that Serin sets.", "remove the label; use app.kubernetes.io/version for a name of your own";
    DISRUPTION_BUDGET = "disruption-budget", Warning, "A disruption budget allows no pod to be missing.", "allow one pod to be missing";
    QUOTA_TOO_SMALL = "quota-too-small", Warning, "A quota has no room for the canary beside stable.", "raise the quota, or use dynamicStableScale";
    OTHER_CONTROLLER = "other-controller", Warning, "The object belongs to another progressive delivery controller.", "move it over: kubectl serin convert";
    ROUTE_DRIFT = "route-drift", Warning, "Argo CD or Flux writes the weights back in the middle of a canary.", "tell it to ignore the weights, or let Serin own the route";
    IGNORE_NOT_RESPECTED = "ignore-not-respected", Warning, "Argo CD ignores the weights when it compares, and writes them with every commit.", "add ApplyOutOfSyncOnly=true to syncPolicy.syncOptions";
    EDITS_NOT_APPLIED = "edits-not-applied", Warning, "Argo CD never writes what Git changes of the route.", "use ApplyOutOfSyncOnly=true in place of RespectIgnoreDifferences=true";
    ROUTE_IN_GIT = "route-in-git", Note, "Git holds the route whose weights Serin writes.", "tell Argo CD or Flux to ignore the weights, or let Serin own the route";
    FORCED_APPLY = "forced-apply", Warning, "The object is deleted and created again when it cannot be applied.", "remove the option: with the Rollout go its pods";
    APPLIED_ONCE = "applied-once", Warning, "Changes in Git never reach the object.", "remove the annotation";
    WAIT_TOO_SHORT = "wait-too-short", Warning, "A deployment tool gives up waiting before the steps are over.", "raise the timeout, or do not wait for the Rollout";
    REVISION_NOT_PINNED = "revision-not-pinned", Note, "The source follows whatever is newest.", "name a branch, a tag or a commit";
    NO_GIT_COMMIT = "no-git-commit", Note, "The Rollout does not say which commit it is.", "set the annotation serin.dev/git-commit in the pipeline, such as by kustomize's commonAnnotations, or let Serin read it from Flux or Argo CD (serin run --commit-from)";
}

/// The rule of a name.
pub fn named(id: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.id == id)
}
