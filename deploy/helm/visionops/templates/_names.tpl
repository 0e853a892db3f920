{{/* Labels that select the pods of a component. */}}
{{- define "visionops.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Labels of an object that belongs to a component. */}}
{{- define "visionops.labels" -}}
{{ include "visionops.selector" . }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: visionops
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "visionops.metadata" -}}
name: {{ .name | default .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "visionops.labels" . | nindent 2 }}
{{- end }}

{{- define "visionops.images.serving" -}}
{{ required "images.serving: set it to the serving image, as REGISTRY/visionops-serving:TAG; make images builds it" .Values.images.serving }}
{{- end }}

{{- define "visionops.images.pipeline" -}}
{{ required "images.pipeline: set it to the pipeline image, as REGISTRY/visionops-pipeline:TAG; make images builds it" .Values.images.pipeline }}
{{- end }}

{{- define "visionops.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Addresses for pods of the namespace; empty without one. */}}

{{- define "visionops.url.zenml" -}}
{{ .Values.zenml.enabled | ternary "http://zenml" .Values.external.zenml }}
{{- end }}

{{- define "visionops.url.mlflow" -}}
{{ .Values.mlflow.enabled | ternary "http://mlflow:5000" .Values.external.mlflow }}
{{- end }}

{{- define "visionops.url.postgres" -}}
{{- if .Values.postgres.enabled -}}
postgresql+psycopg://mlflow@postgres/mlflow
{{- else -}}
{{ required "external.postgres: set it to the database that MLflow is to use, as postgresql+psycopg://USER@HOST:5432/DATABASE, or postgres.enabled=true" .Values.external.postgres }}
{{- end }}
{{- end }}

{{/* "true" if a component of the chart uses the review database, else empty. */}}
{{- define "visionops.usesReview" -}}
{{- $uses := .Values.control.enabled }}
{{- range .Values.useCases }}
{{- $uses = or $uses .intake }}
{{- end }}
{{- if $uses }}true{{ end }}
{{- end }}

{{- define "visionops.url.review" -}}
{{ .Values.control.database | default (include "visionops.url.postgres" . | replace "+psycopg" "") | required "control.database: set it to postgresql://USER@HOST/DATABASE, or postgres.enabled=true" }}
{{- end }}

{{- define "visionops.url.s3" -}}
{{ .Values.s3.enabled | ternary "http://s3:8333" .Values.external.s3 }}
{{- end }}

{{- define "visionops.url.prometheus" -}}
{{ .Values.prometheus.enabled | ternary "http://prometheus:9090" .Values.external.prometheus }}
{{- end }}

{{- define "visionops.url.alertmanager" -}}
{{ and .Values.prometheus.enabled .Values.prometheus.alertmanager.enabled | ternary "http://alertmanager:9093" .Values.external.alertmanager }}
{{- end }}

{{- define "visionops.url.pushgateway" -}}
{{ include "visionops.ownPushgateway" . | empty | not | ternary "https://pushgateway:9091" .Values.external.pushgateway }}
{{- end }}

{{/* "true" if the chart includes the Pushgateway, else empty. */}}
{{- define "visionops.ownPushgateway" -}}
{{- if and .Values.prometheus.enabled (index .Values.prometheus "prometheus-pushgateway").enabled }}true{{ end }}
{{- end }}

{{/* Port of an address, or the default of its scheme. */}}
{{- define "visionops.port" -}}
{{- $parts := urlParse . -}}
{{- $said := regexFind ":[0-9]+$" $parts.host | trimPrefix ":" -}}
{{ $said | default (get (dict "http" "80" "https" "443") $parts.scheme) | default "5432" }}
{{- end }}

{{/* HOST:PORT of an address. */}}
{{- define "visionops.target" -}}
{{ (urlParse .).host | trimSuffix (printf ":%s" (include "visionops.port" .)) }}:{{ include "visionops.port" . }}
{{- end }}
