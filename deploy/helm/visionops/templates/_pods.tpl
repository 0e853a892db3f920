{{/* Security contexts of pod and containers for the "restricted" Pod Security Standard. */}}

{{- define "visionops.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "visionops.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Requests and limits without devices (nvidia.com/gpu), which only a server uses. */}}
{{- define "visionops.withoutDevices" -}}
{{- $kept := dict }}
{{- range $kind, $given := . }}
{{- $plain := dict }}
{{- range $name, $amount := $given }}
{{- if not (contains "/" $name) }}
{{- $_ := set $plain $name $amount }}
{{- end }}
{{- end }}
{{- $_ := set $kept $kind $plain }}
{{- end }}
{{- toYaml $kept }}
{{- end }}

{{/* Variables with the store's address for AWS clients. */}}
{{- define "visionops.storeEnvironment" -}}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.s3.region | quote }}}
{{- with include "visionops.url.s3" . }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Variables with the place of the review, without secrets. */}}
{{- define "visionops.reviewEnvironment" -}}
- {name: VISIONOPS_REVIEW_DATABASE, value: {{ include "visionops.url.review" . | quote }}}
- {name: VISIONOPS_REVIEW_IMAGES, value: "s3://{{ .Values.s3.bucket }}/review"}
{{- end }}

{{/* Credentials of the review, only for pods that open it themselves. */}}
{{- define "visionops.reviewPassword" -}}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: postgres, key: PGPASSWORD}}
{{- end }}

{{/* Parts of a NetworkPolicy. */}}

{{- define "visionops.fromNamespaces" -}}
{{- with . -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}
{{- end }}

{{/* Unique ports, sorted. */}}
{{- define "visionops.ports" -}}
{{- $padded := list }}
{{- range . }}
{{- $padded = append $padded (printf "%05d" (int .)) }}
{{- end }}
{{- range $padded | uniq | sortAlpha }}
- {port: {{ . | trimPrefix "0" | trimPrefix "0" | trimPrefix "0" | trimPrefix "0" }}, protocol: TCP}
{{- end }}
{{- end }}

{{/* Pods of a component; "*" for all of the namespace, "steps" for pods that ZenML's orchestrator creates. */}}
{{- define "visionops.pods" -}}
{{- if eq .component "*" -}}
- podSelector: {}
{{- else if eq .component "steps" -}}
- podSelector:
    matchExpressions:
      - {key: project_id, operator: Exists}
{{- else -}}
- podSelector:
    matchLabels:
      {{- include "visionops.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* Environment of a run's starter: the pod of a CronJob, a Job of the control service, and the service itself. */}}
{{- define "visionops.runEnvironment" -}}
{{- $root := . }}
envFrom:
  - secretRef: {name: s3}
  - secretRef: {name: zenml-account}
  - secretRef: {name: pushgateway-login, optional: true}
env:
  {{- include "visionops.storeEnvironment" $root | nindent 2 }}
  - name: ZENML_STORE_URL
    value: {{ required "external.zenml: set it to the address of the ZenML server, or zenml.enabled=true" (include "visionops.url.zenml" $root) | quote }}
  - {name: ZENML_ANALYTICS_OPT_IN, value: "false"}
  # For stacks that name a context; `incluster` uses the pod's account.
  - {name: VISIONOPS_KUBERNETES_INCLUSTER, value: "true"}
  - {name: VISIONOPS_KUBERNETES_CONTEXT, value: in-cluster}
  - {name: VISIONOPS_KUBERNETES_NAMESPACE, value: {{ $root.Release.Namespace }}}
  - {name: VISIONOPS_REGISTRY, value: {{ include "visionops.images.pipeline" $root | dir | quote }}}
  - {name: VISIONOPS_SERVICE_ACCOUNT, value: visionops-orchestrator}
  - {name: VISIONOPS_STEP_SERVICE_ACCOUNT, value: visionops-deployer}
  - {name: VISIONOPS_PIPELINE_IMAGE, value: {{ include "visionops.images.pipeline" $root | quote }}}
  - {name: VISIONOPS_SERVING_IMAGE, value: {{ include "visionops.images.serving" $root | quote }}}
  - name: VISIONOPS_MLFLOW
    value: {{ required "external.mlflow: set it to the address of the MLflow server, or mlflow.enabled=true" (include "visionops.url.mlflow" $root) | quote }}
  - {name: VISIONOPS_S3_BUCKET, value: "s3://{{ $root.Values.s3.bucket }}"}
  - {name: VISIONOPS_S3_SECRET, value: s3}
  {{- if include "visionops.usesReview" $root }}
  # Steps that read the review get the Secret by its name; the pod that starts them does not.
  {{- include "visionops.reviewEnvironment" $root | nindent 2 }}
  - {name: VISIONOPS_REVIEW_SECRET, value: postgres}
  {{- end }}
  {{- range $name, $url := dict "S3_ENDPOINT" (include "visionops.url.s3" $root) "ALERTMANAGER" (include "visionops.url.alertmanager" $root) "PUSHGATEWAY" (include "visionops.url.pushgateway" $root) }}
  {{- with $url }}
  - {name: VISIONOPS_{{ $name }}, value: {{ . | quote }}}
  {{- end }}
  {{- end }}
{{- end }}
