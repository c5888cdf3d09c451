{{- define "serin.labels" -}}
app.kubernetes.io/name: serin
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The same as in deploy/, so that an installation by kustomize can be taken over: a selector never changes. */}}
{{- define "serin.selector" -}}
app.kubernetes.io/name: serin
{{- end }}

{{- define "serin.account" -}}
{{- if .Values.serviceAccount.create }}{{ default .Values.name .Values.serviceAccount.name }}
{{- else }}{{ required "serviceAccount.name: name the account that is there, or set serviceAccount.create=true" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* Serin's account, or another: (dict "root" $ "account" …). */}}
{{- define "serin.subjects" -}}
- kind: ServiceAccount
  name: {{ .account | default (include "serin.account" .root) }}
  namespace: {{ .root.Release.Namespace }}
{{- end }}

{{- define "serin.image" -}}
{{- if .Values.image.digest }}{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}{{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* A role and its binding to Serin's account, or to "account": (dict "root" $ "name" … "namespace" … "rules" …). */}}
{{- define "serin.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels: {{- include "serin.labels" .root | nindent 4 }}
rules:
{{ .rules | trim }}
---
{{ include "serin.binding" . }}
{{- end }}

{{- /* A RoleBinding to Serin's account, of a Role unless "kind" says ClusterRole. */}}
{{- define "serin.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels: {{- include "serin.labels" .root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ default "Role" .kind }}, name: {{ .name }}}
subjects:
{{ include "serin.subjects" . }}
{{- end }}

{{- /* The same in all of the cluster. */}}
{{- define "serin.clusterRole" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .name }}
  labels: {{- include "serin.labels" .root | nindent 4 }}
rules:
{{ .rules | trim }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .name }}
  labels: {{- include "serin.labels" .root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ .name }}}
subjects:
{{ include "serin.subjects" . }}
{{- end }}

{{- /* Whether who asks by a RolloutAction is verified, and what nobody may do else is refused: "true", or "false". */}}
{{- define "serin.verifies" -}}
{{ or .Values.requesters.enabled .Values.fourEyes.enabled }}
{{- end }}

{{- /* RolloutActions when they are created: what they say never changes. */}}
{{- define "serin.newActions" -}}
resourceRules:
- apiGroups: [serin.dev]
  apiVersions: ["*"]
  operations: [CREATE]
  resources: [rolloutactions]
{{- end }}

{{- /* Where a policy holds: (dict "root" $ "name" … "ofRollouts" whether each Rollout is a parameter). */}}
{{- define "serin.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels: {{- include "serin.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: {{ toJson .root.Values.policies.validationActions }}
  {{- if .ofRollouts }}
  paramRef: {selector: {}, parameterNotFoundAction: Deny}
  {{- end }}
  {{- if .root.Values.watchNamespace }}
  matchResources:
    namespaceSelector:
      matchLabels: {kubernetes.io/metadata.name: {{ .root.Values.watchNamespace }}}
  {{- else if .root.Values.policies.namespaceSelector }}
  matchResources:
    namespaceSelector: {{- toYaml .root.Values.policies.namespaceSelector | nindent 6 }}
  {{- end }}
{{- end }}

{{- /* Policies that would lock everybody out, or that could be gone around. */}}
{{- define "serin.checkPolicies" -}}
{{- $v := .Values }}
{{- if and $v.gitOnly.enabled (not $v.gitOnly.users) (not $v.gitOnly.groups) }}
{{- fail "gitOnly.users: name who applies Git, such as system:serviceaccount:flux-system:kustomize-controller; else nobody could change a Rollout" }}
{{- end }}
{{- if and $v.fourEyes.enabled (not $v.gitOnly.enabled) }}
{{- fail "fourEyes.enabled: who may change a Rollout may write an approval into it; set gitOnly.enabled=true" }}
{{- end }}
{{- if and $v.watchNamespace $v.policies.namespaceSelector }}
{{- fail "policies.namespaceSelector: with watchNamespace the policies hold in that namespace; leave it empty" }}
{{- end }}
{{- end }}
