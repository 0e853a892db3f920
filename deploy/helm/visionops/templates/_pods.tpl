{{/* What the "restricted" Pod Security Standard asks of a pod, and of its containers. */}}

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

{{/* How AWS clients find the store. */}}
{{- define "visionops.storeEnvironment" -}}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.s3.region | quote }}}
{{- with include "visionops.url.s3" . }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Of a NetworkPolicy. */}}

{{- define "visionops.fromNamespaces" -}}
{{- with . -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}
{{- end }}

{{/* Each port once, in order. */}}
{{- define "visionops.ports" -}}
{{- $padded := list }}
{{- range . }}
{{- $padded = append $padded (printf "%05d" (int .)) }}
{{- end }}
{{- range $padded | uniq | sortAlpha }}
- {port: {{ . | trimPrefix "0" | trimPrefix "0" | trimPrefix "0" | trimPrefix "0" }}, protocol: TCP}
{{- end }}
{{- end }}

{{/* Pods of a component; "*" all of the namespace. */}}
{{- define "visionops.pods" -}}
{{- if eq .component "*" -}}
- podSelector: {}
{{- else -}}
- podSelector:
    matchLabels:
      {{- include "visionops.selector" . | nindent 6 }}
{{- end }}
{{- end }}
